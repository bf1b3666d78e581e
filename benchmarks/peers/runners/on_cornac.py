"""Runner of cornac: BPR."""

import cornac
import numpy as np
from turns import Turns


def main() -> None:
    """Train until the driver has had enough."""
    turns = Turns()
    job = turns.job
    triples = [(int(u), int(i), 1.0) for u, i in zip(job.users, job.indices, strict=True)]
    data = cornac.data.Dataset.from_uir(triples, seed=job.seed)
    # a seed would make cornac train on one thread; it has no other way to be told one
    kind = {"bpr": cornac.models.BPR}[job.model]
    model = kind(k=job.dim, max_iter=job.every, num_threads=job.threads, **job.options)
    model.rng.seed(job.seed)
    users = np.array(list(data.uid_map))  # cornac's order → ours
    items = np.array(list(data.iid_map))

    def vectors() -> tuple[np.ndarray, np.ndarray]:
        U = np.zeros((job.n_users, job.dim + 1), np.float32)
        V = np.zeros((job.n_items, job.dim + 1), np.float32)
        U[users] = model.get_user_vectors()
        V[items] = model.get_item_vectors()
        return U, V

    def scores(user: int) -> np.ndarray:
        out = np.zeros(job.n_items, np.float32)
        out[items] = model.score(data.uid_map[user])
        return out

    turns.begin(version=cornac.__version__, negatives=1)
    while True:
        model.fit(data)  # goes on from where it is
        turns.trained(vectors, scores, epochs=job.every)


if __name__ == "__main__":
    main()
