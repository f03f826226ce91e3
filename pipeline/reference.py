"""Statistics of the real faces' features, for the evaluation: those of each split, computed once."""

from stage import DOWNLOADS, FACES, MAIN_ROOT, REFERENCE, run

from dcgan.params import ReferenceParams


def main(params: ReferenceParams) -> None:
    from dcgan import hardware, images
    from dcgan.datasets.index import SPLITS
    from dcgan.metrics import feature_networks, reference

    hardware.make_deterministic()
    network = feature_networks.load(params.fid_network, MAIN_ROOT / DOWNLOADS, hardware.default_device())
    splits = {}
    for split in SPLITS:
        faces = images.open_split(FACES, split)
        if len(faces) >= 2:
            batches = reference.in_batches(faces)
            splits[split] = reference.statistics(network, batches, len(faces), f"features of {split}")
    reference.save(REFERENCE, splits, network)


if __name__ == "__main__":
    run(ReferenceParams, main)
