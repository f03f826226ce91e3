"""Computes the feature statistics and features of the real faces in each split once, for the evaluation."""

from dcgan.schema import ReferenceParams
from dcgan.system.project_files import FACES, REFERENCE
from pipeline.support.feature_network import measuring
from pipeline.support.outs import outs
from pipeline.support.stage import run


def main(params: ReferenceParams) -> None:
    from dcgan.data import images
    from dcgan.data.index import SPLITS
    from dcgan.metrics import reference
    from dcgan.metrics.collecting import of_faces

    with measuring(params.fid_network, params.fid_compile) as job:
        if job is None:
            return
        faces = {split: images.open_faces(FACES, split) for split in SPLITS}
        splits = {split: (of_faces(of_split), len(of_split)) for split, of_split in faces.items()}
        if job.ranks.writes:
            with outs() as new:
                reference.write(new(REFERENCE), job.network, splits, job.ranks)
        else:
            reference.write(REFERENCE, job.network, splits, job.ranks)


if __name__ == "__main__":
    run(ReferenceParams, main)
