"""Runner of LightFM: its BPR and WARP losses, without features."""

import lightfm
import numpy as np
from scipy.sparse import csr_matrix
from turns import Turns


def main() -> None:
    """Train until the driver has had enough."""
    turns = Turns()
    job = turns.job
    model = lightfm.LightFM(
        loss=job.model, no_components=job.dim, random_state=job.seed, **job.options
    )
    ones = np.ones(len(job.indices), np.float32)
    matrix = csr_matrix((ones, job.indices, job.indptr), shape=(job.n_users, job.n_items))

    def vectors() -> tuple[np.ndarray, np.ndarray]:
        user_biases, U = model.get_user_representations()
        item_biases, V = model.get_item_representations()
        ones = np.ones_like
        return (
            np.column_stack([U, user_biases, ones(user_biases)]),
            np.column_stack([V, ones(item_biases), item_biases]),
        )

    def scores(user: int) -> np.ndarray:
        return model.predict(user, np.arange(job.n_items, dtype=np.int32))

    # WARP draws until a negative ranks too high, at most `max_sampled` times
    negatives = {"bpr": 1, "warp": f"1 to {model.max_sampled}"}[job.model]
    turns.begin(version=lightfm.__version__, negatives=negatives)
    while True:
        model.fit_partial(matrix, epochs=job.every, num_threads=job.threads)
        turns.trained(vectors, scores, epochs=job.every)


if __name__ == "__main__":
    main()
