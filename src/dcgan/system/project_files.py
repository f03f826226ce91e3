"""Where the files of the project are, relative to its folder."""

from pathlib import Path

DOWNLOADS, FOLDER = Path("data/downloads"), Path("data/folder")
RAW, FACES, INVENTORY = Path("data/raw"), Path("data/faces"), Path("data/folder.parquet")
LINK, LINKS = Path("data/link.json"), Path("data/links")
REFERENCE, WEIGHTS = Path("data/reference"), Path("data/weights")
GENERATOR, DISCRIMINATOR = Path("models/generator.safetensors"), Path("models/discriminator.safetensors")
DIRECTIONS = Path("models/directions.safetensors")
REPORTS, PRESETS = Path("reports"), Path("presets")
METRICS, NEIGHBOURS = REPORTS / "metrics.json", REPORTS / "neighbours.png"
LOSSES, DISTANCES, REPORT = REPORTS / "losses.csv", REPORTS / "distances.csv", REPORTS / "report.html"
ATTRIBUTES = REPORTS / "attributes.json"
