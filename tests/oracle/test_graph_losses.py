"""The losses of graph views against dense matrices and plain loops, value and gradient."""

import math

import numpy as np
import pytest
import torch

from contrarec.kernels.propagate import (
    bipartite_graph,
    drop_edges,
    item_half_order,
    propagate,
)
from contrarec.losses import (
    LOSSES,
    NCL,
    SGL,
    AdvDrop,
    AdvDropConfig,
    AUPlus,
    AUPlusConfig,
    MixRec,
    MixRecConfig,
    NCLConfig,
    SGLConfig,
    SimGCL,
    SimGCLConfig,
    XSimGCL,
    XSimGCLConfig,
)
from contrarec.losses.advdrop import arm_gradient
from contrarec.losses.functional import contrast
from contrarec.losses.kmeans import kmeans
from contrarec.losses.mixrec import mixing_contrast
from graphs import adjacency, encoder, pairs_of

N_USERS, N_ITEMS, DIM = 9, 7, 5


def log(seed=0, density=0.4):
    """Return a 0/1 matrix in which everybody has something, and its compressed rows."""
    rng = np.random.default_rng(seed)
    pairs = rng.random((N_USERS, N_ITEMS)) < density
    pairs[np.arange(N_USERS), np.arange(N_USERS) % N_ITEMS] = True
    indptr = np.append(0, pairs.sum(1).cumsum())
    return torch.from_numpy(pairs).double(), indptr, pairs.nonzero()[1].astype(np.int32)


PAIRS, INDPTR, INDICES = log()


def backbone(**settings):
    model = encoder(INDPTR, INDICES, N_ITEMS, dim=DIM, **settings)
    with torch.no_grad():  # xavier's values are small: no log-sum-exp would be told from a mean
        for table in (model.user_table, model.item_table):
            table.mul_(3)
    return model


def batch():
    """Return a batch with a user and an item twice."""
    g = torch.Generator().manual_seed(4)
    return {
        "users": torch.tensor([0, 3, 3, 8, 5]),
        "pos_items": torch.tensor([2, 0, 6, 2, 4]),
        "neg_items": torch.randint(0, N_ITEMS, (5, 3), generator=g),
    }


# dense twins


def dense_layers(model, n_layers, perturb=lambda x, _: x, pairs=PAIRS):
    a, layer = adjacency(pairs), torch.cat([model.user_table, model.item_table])
    layers = [layer]
    for number in range(n_layers):
        layer = perturb(a @ layer, number)
        layers.append(layer)
    return layers


def dense_mean(model, layers):
    if model.ego_weight == 0:
        return sum(layers[1:]) / (len(layers) - 1)
    return sum(layers) / len(layers)


def naive_contrast(anchors, positives, candidates, tau):
    """Return one loss per row by loops over scalars of the graph."""
    rows = []
    for a, p in zip(anchors, positives, strict=True):
        logits = [a @ c / (a.norm() * c.norm()) / tau for c in candidates]
        top = a @ p / (a.norm() * p.norm()) / tau
        rows.append(-torch.log(top.exp() / sum(x.exp() for x in logits)))
    return rows


def naive_views(first, second, tau):
    """Return the mean over the batch's distinct users plus that over its distinct items."""
    rows = batch()
    users = sorted(set(rows["users"].tolist()))
    items = [N_USERS + i for i in sorted(set(rows["pos_items"].tolist()))]
    total = 0
    for some in (users, items):
        losses = naive_contrast(first[some], second[some], second[some], tau)
        total = total + sum(losses) / len(losses)
    return total


def naive_bpr(output):
    rows, total = batch(), 0
    for u, i, negatives in zip(*(rows[k].tolist() for k in rows), strict=True):
        for j in negatives:
            margin = output[u] @ output[N_USERS + i] - output[u] @ output[N_USERS + j]
            total = total + torch.log1p((-margin).exp()) / len(negatives)
    return total / len(rows["users"])


def check(loss, model, want, rtol=2e-6):
    """Compare value and gradient of a step with those of a dense twin; returns the outputs."""
    rows, outputs = batch(), loss.propagate(model)
    vectors = outputs
    if loss.similarity == "cosine":
        vectors = tuple(torch.nn.functional.normalize(table) for table in outputs)
    users = vectors[0][rows["users"]]
    pos = (users * vectors[1][rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", users, vectors[1][rows["neg_items"]])
    got = loss(pos, neg, outputs=outputs, **rows)
    want = want()
    tables = model.user_table, model.item_table
    grads = [torch.autograd.grad(value, tables, retain_graph=True) for value in (got, want)]
    torch.testing.assert_close(got, want, rtol=rtol, atol=0)
    for a, b in zip(*grads, strict=True):
        assert b.abs().max() > 1e-4
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    return outputs


# the graph


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_dropped_graph_is_symmetric_and_normalised_anew(drop):
    graph = bipartite_graph(INDPTR, INDICES, N_ITEMS)
    keep = torch.rand(len(INDICES), generator=torch.Generator().manual_seed(1)) >= drop
    thin = drop_edges(graph, keep)
    users = torch.arange(N_USERS).repeat_interleave(torch.from_numpy(np.diff(INDPTR)))
    want = torch.zeros_like(PAIRS)
    for u, i, kept in zip(users.tolist(), INDICES.tolist(), keep.tolist(), strict=True):
        want[u, i] = kept
    assert torch.equal(pairs_of(thin, N_ITEMS), want)
    table = torch.eye(N_USERS + N_ITEMS, dtype=torch.float64).split([N_USERS, N_ITEMS])
    once = torch.cat(propagate(thin, *table, 1, layer_zero=False))  # A times the unit matrix: A
    torch.testing.assert_close(once, adjacency(want), rtol=1e-6, atol=1e-7)
    if drop == 0:
        assert all(torch.equal(a, b) for a, b in zip(thin, graph, strict=True))


# contrast


def test_contrast_by_loops_and_its_gradient():
    g = torch.Generator().manual_seed(0)
    a, p, c = (torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (3, 3, 6))
    for candidates in (None, c):
        got = contrast(a, p, candidates, tau=0.3)
        want = naive_contrast(a, p, p if candidates is None else c, 0.3)
        torch.testing.assert_close(got, torch.stack(want))
    inputs = [x.requires_grad_() for x in (a, p, c)]
    assert torch.autograd.gradcheck(lambda *x: contrast(*x, tau=0.3), inputs)


# the losses


@pytest.mark.parametrize("ego_weight", [None, 0.0])
def test_sgl(ego_weight):
    model = backbone(n_layers=2, ego_weight=ego_weight)
    loss = SGL(SGLConfig(view_weight=0.7, view_tau=0.3, edge_drop=0.35), rng=3)

    def want():
        views = []
        for graph in loss._graphs[1]:
            pairs = pairs_of(graph, N_ITEMS)
            assert (pairs <= PAIRS).all()
            assert pairs.sum() == int(len(INDICES) * 0.65)
            views.append(dense_mean(model, dense_layers(model, 2, pairs=pairs)))
        assert not torch.equal(*views)
        return naive_bpr(dense_mean(model, dense_layers(model, 2))) + 0.7 * naive_views(*views, 0.3)

    check(loss, model, want)


def noise_of(loss, n_layers, passes):
    """Return the noise that a step added, `[passes][layer]`, drawn again: users, then items."""
    g = loss.draws.generator()

    def unit():
        parts = [torch.rand(n, DIM, generator=g, dtype=torch.float64) for n in (N_USERS, N_ITEMS)]
        return torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts])

    return [[unit() for _ in range(n_layers)] for _ in range(passes)]


def noisy(loss, noise):
    """Add a pass's noise to its layers."""
    return lambda x, number: x + loss.config.noise * x.detach().sign() * noise[number]


@pytest.mark.parametrize("ego_weight", [None, 0.0])
def test_simgcl(ego_weight):
    model = backbone(n_layers=3, ego_weight=ego_weight)
    loss = SimGCL(SimGCLConfig(view_weight=0.7, view_tau=0.3, noise=0.4), rng=3)

    def want():
        views = [
            dense_mean(model, dense_layers(model, 3, noisy(loss, noise)))
            for noise in noise_of(loss, 3, 2)
        ]
        return naive_bpr(dense_mean(model, dense_layers(model, 3))) + 0.7 * naive_views(*views, 0.3)

    check(loss, model, want)


@pytest.mark.parametrize("view_layer", [0, 1, 2])
def test_xsimgcl(view_layer):
    model = backbone(n_layers=2, ego_weight=0.0)
    config = XSimGCLConfig(view_weight=0.7, view_tau=0.3, noise=0.4, view_layer=view_layer)
    loss = XSimGCL(config, rng=3)

    def want():
        layers = dense_layers(model, 2, noisy(loss, noise_of(loss, 2, 1)[0]))
        output = dense_mean(model, layers)
        return naive_bpr(output) + 0.7 * naive_views(output, layers[view_layer], 0.3)

    outputs = check(loss, model, want)
    torch.testing.assert_close(loss._views[0], outputs)


def test_au_plus():
    model = backbone(n_layers=2)
    config = AUPlusConfig(gamma=0.6, view_weight=0.7, view_tau=0.3, noise=0.4)
    loss, rows = AUPlus(config, rng=3), batch()

    def potential(rows):
        unit = [row / row.norm() for row in rows]
        pairs = [(a, b) for n, a in enumerate(unit) for b in unit[:n]]
        return torch.log(sum((-2 * (a - b).square().sum()).exp() for a, b in pairs) / len(pairs))

    def want():
        layers, views = dense_layers(model, 2), []
        for noise in noise_of(loss, 1, 2):
            shifted = noisy(loss, noise)(layers[0], 0)
            a = adjacency(PAIRS)
            views.append((shifted + a @ shifted + a @ a @ shifted) / 3)
        output = dense_mean(model, layers)
        users, items = output[rows["users"]], output[N_USERS + rows["pos_items"]]
        total = 0.7 * naive_views(*views, 0.3) + 0.3 * (potential(users) + potential(items))
        for u, i in zip(users, items, strict=True):
            total = total + (u / u.norm() - i / i.norm()).square().sum() / len(users)
        return total

    check(loss, model, want)


@pytest.mark.parametrize(("hops", "n_layers"), [(1, 2), (1, 3), (2, 1)])
def test_ncl(hops, n_layers):
    model, rows = backbone(n_layers=n_layers), batch()
    config = NCLConfig(
        view_tau=0.4, layer_weight=0.05, prototype_weight=0.03, item_share=0.6, hops=hops,
        n_prototypes=3, warm_up_epochs=0,
    )  # fmt: skip
    loss = NCL(config, n_users=N_USERS, n_items=N_ITEMS, dim=DIM, rng=3).double()
    loss.begin_epoch(0, None)

    def want():
        layers = dense_layers(model, max(n_layers, 2 * hops))
        total = naive_bpr(dense_mean(model, layers[: n_layers + 1]))
        parts = (
            (rows["users"], 0, N_USERS, 1.0, loss.user_centroids, loss.user_cluster),
            (rows["pos_items"], N_USERS, N_ITEMS, 0.6, loss.item_centroids, loss.item_cluster),
        )
        for nodes, start, n, share, centroids, cluster in parts:
            ego, far = layers[0][start : start + n], layers[2 * hops][start : start + n]
            graph = sum(naive_contrast(far[nodes], ego[nodes], ego, 0.4))
            mine = centroids[cluster[nodes]]
            total = total + 0.05 * share * graph
            total = total + 0.03 * sum(naive_contrast(ego[nodes], mine, centroids, 0.4))
        return total

    check(loss, model, want)
    assert len(loss.user_cluster.unique()) == 3


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_kmeans_by_loops(steps):
    g = torch.Generator().manual_seed(2)
    x = torch.randn(30, 3, generator=g, dtype=torch.float64)
    x[25:] = x[0]  # so that some of the rows to start from are the same
    start = torch.randperm(30, generator=torch.Generator().manual_seed(5))[:6]
    centroids = [x[row].tolist() for row in start]
    for step in range(steps + 1):
        distances = [[math.dist(row, c) for c in centroids] for row in x.tolist()]
        cluster = [row.index(min(row)) for row in distances]
        if step == steps:
            break
        for c in range(6):
            mine = [row for row, own in zip(x.tolist(), cluster, strict=True) if own == c]
            if mine:
                centroids[c] = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
    found = kmeans(x, 6, steps=steps, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(found[0], torch.tensor(centroids, dtype=torch.float64))
    own, want = (
        torch.tensor(distances).gather(1, c[:, None]) for c in (found[1], torch.tensor(cluster))
    )
    torch.testing.assert_close(own, want)  # of equal distances either may be named


def test_kmeans_keeps_an_empty_centroid():
    """Two of the three starting rows are the same: one of them is nearest to nothing."""
    x = torch.tensor([[0.0], [0.0], [4.0]])
    centroids, cluster = kmeans(x, 3, steps=5, generator=torch.Generator().manual_seed(0))
    assert sorted(centroids.flatten().tolist()) == [0.0, 0.0, 4.0]
    assert torch.equal(centroids[cluster], x)


def test_mixrec():
    model = backbone(n_layers=3, ego_weight=0.0)
    config = MixRecConfig(view_weight=0.7, view_tau=0.3, concentration=0.8)
    loss, rows = MixRec(config, rng=3), batch()

    def want():
        rng = np.random.default_rng(loss.draws.key())
        b_u, b_i = rng.beta(0.8, 0.8, 2)
        w = rng.dirichlet(np.full(5, 0.8))
        orders = rng.permutation(5), rng.permutation(5)
        assert 0.05 < min(b_u, b_i) < max(b_u, b_i) < 0.95
        output = dense_mean(model, dense_layers(model, 3))
        u, i = output[rows["users"]], output[N_USERS + rows["pos_items"]]
        j = output[N_USERS + rows["neg_items"][:, 0]]
        mixed = [b_i * j[r] + (1 - b_i) * j[orders[1][r]] for r in range(5)]
        total = b_i * naive_bpr(output) + (1 - b_i) * sum(naive_contrast(u, i, mixed, 1.0)) / 5
        for x, b, order in ((u, b_u, orders[0]), (i, b_i, orders[1])):
            y = [b * x[r] + (1 - b) * x[order[r]] for r in range(5)]
            crowd = [*x, sum(w[r] * x[r] for r in range(5))]
            own = sum(naive_contrast(x, y, crowd, 0.3)) / 5
            other = sum(naive_contrast([x[order[r]] for r in range(5)], y, crowd, 0.3)) / 5
            total = total + 0.7 * (b * own + (1 - b) * other)
        return total

    check(loss, model, want)


def test_mixing_with_oneself_alone():
    """Share 1: each row against itself among all, and the mixture."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    got = mixing_contrast(x, 1.0, torch.tensor([1, 0, 3, 2]), weights, tau=0.5)
    want = naive_contrast(x, x, [*x, x[2]], 0.5)
    torch.testing.assert_close(got, sum(want) / 4)


# AdvDrop


def test_item_half_order():
    graph = bipartite_graph(INDPTR, INDICES, N_ITEMS)
    users = torch.arange(N_USERS).repeat_interleave(torch.from_numpy(np.diff(INDPTR)))
    assert torch.equal(users[item_half_order(graph)], graph.item_users.long())
    weights = torch.rand(len(INDICES))
    other = graph._replace(user_weights=weights, item_weights=weights[item_half_order(graph)])
    table = torch.eye(N_USERS + N_ITEMS, dtype=torch.float64).split([N_USERS, N_ITEMS])
    once = torch.cat(propagate(other, *table, 1, layer_zero=False))
    torch.testing.assert_close(once, once.T)


def masked(loss, model):
    """Return both graphs' adjacencies as a step drew them: probabilities by loops."""
    uniform = torch.rand(2, len(INDICES), generator=loss.draws.generator())
    users, items = (table.detach() for table in (model.user_table, model.item_table))
    q, k = users @ loss.query.detach().double(), items @ loss.key.detach().double()
    full, edge, graphs = adjacency(PAIRS), 0, [torch.zeros(16, 16).double() for _ in range(2)]
    for u in range(N_USERS):
        mine = INDICES[INDPTR[u] : INDPTR[u + 1]].tolist()
        alike = [(q[u] @ k[i]).item() for i in mine]
        for i, value in zip(mine, alike, strict=True):
            m = 1 / (1 + math.exp(sum(alike) / len(mine) - value))
            for graph, chance, draw in zip(graphs, (m, 1 - m), uniform[:, edge], strict=True):
                if draw < chance:
                    graph[u, N_USERS + i] = graph[N_USERS + i, u] = full[u, N_USERS + i] / 0.6
            edge += 1
    return graphs


def test_advdrop():
    model = backbone(n_layers=2)
    config = AdvDropConfig(view_weight=0.7, view_tau=0.3, keep_prob=0.6)
    loss = AdvDrop(config, dim=DIM, rng=3)
    with torch.no_grad():
        loss.query.mul_(3)

    def want():
        graphs, layer = masked(loss, model), torch.cat([model.user_table, model.item_table])
        assert 5 < (graphs[0] > 0).sum() < 2 * len(INDICES) - 5
        outputs = [(layer + a @ layer + a @ (a @ layer)) / 3 for a in graphs]
        return sum(naive_bpr(output) for output in outputs) + 0.7 * naive_views(*outputs, 0.3)

    outputs = check(loss, model, want)
    assert loss.query.grad is None
    # the adversary's probabilities are another's when it moved, and its step leaves the model
    before = model.user_table.clone(), loss.query.clone()
    rows = batch() | {"vectors": (model.user_table, model.item_table), "outputs": outputs}
    loss.adversary_step(torch.zeros(5), torch.zeros(5, 3), **rows)
    assert torch.equal(model.user_table, before[0])
    assert not torch.equal(loss.query, before[1])


def test_advdrop_adversary_raises_the_contrast():
    """Over many steps, on average over many draws; from the same start and in the same draws."""
    model, rows = backbone(n_layers=2), batch()
    rows["vectors"] = model.user_table, model.item_table

    def contrasts(loss):
        loss.propagate(model)
        some = AdvDrop(loss.config, dim=DIM, rng=9)  # other draws, the same for before and after
        some.query, some.key = loss.query, loss.key
        values = []
        for _ in range(300):
            some.propagate(model)
            first, second = some._views
            value = 0
            for a, b, name in zip(first, second, ("users", "pos_items"), strict=True):
                nodes = rows[name].unique()
                value += contrast(a[nodes], b[nodes], tau=0.1).mean().item()
            values.append(value)
            some.after_backward()
        return np.array(values)

    loss = AdvDrop(AdvDropConfig(adv_lr=0.02), dim=DIM, rng=3)
    before = contrasts(loss)
    for _ in range(250):
        loss.adversary_step(torch.zeros(5), torch.zeros(5, 3), **rows)
    change = contrasts(loss) - before
    assert change.mean() > 3 * change.std() / math.sqrt(len(change))


def test_arm_gradient_is_unbiased():
    """Against the exact gradient over all masks; bounds are 5 standard errors."""
    logits = torch.tensor([0.7, -0.4, 1.5], dtype=torch.float64)
    f = lambda b: 3 * b[0] * b[1] - b[2] * (1 - b[0]) + 0.5 * b[1]  # noqa: E731
    p, exact, mean = logits.sigmoid(), 0, 0
    for number in range(8):
        b = torch.tensor([number >> k & 1 for k in range(3)], dtype=torch.float64)
        chance = (p * b + (1 - p) * (1 - b)).prod()
        exact, mean = exact + f(b) * chance * (b - p), mean + f(b) * chance
    uniform = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [arm_gradient(lambda mask: f(mask.double()), logits, u) for u in uniform]
    values, gradients = (torch.stack(part) for part in zip(*found, strict=True))
    for got, want in ((gradients, exact), (values, mean)):
        error = got.std(0) / math.sqrt(len(got))
        assert ((got.mean(0) - want).abs() < 5 * error).all()


# LightGCN++


@pytest.mark.parametrize(
    ("alpha", "beta", "gamma"), [(0.6, -0.1, None), (0.5, 0.5, 0.0), (0, 1, 0.7)]
)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_lightgcn_plus_plus(alpha, beta, gamma, n_layers):
    model = backbone(
        name="lightgcn++", n_layers=n_layers, ego_weight=gamma, degree_exponent=float(alpha),
        neighbour_exponent=float(beta),
    )  # fmt: skip
    full = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS, dtype=torch.float64)
    full[:N_USERS, N_USERS:] = PAIRS
    full = full + full.T
    degree = full.sum(1)
    matrix = torch.diag(degree**-alpha) @ full @ torch.diag(degree**-beta)
    layer = torch.cat([model.user_table, model.item_table])
    gamma = 0.2 if gamma is None else gamma
    output = gamma * layer
    for _ in range(n_layers):
        layer = matrix @ (layer / layer.norm(dim=1, keepdim=True))
        output = output + (1 - gamma) / n_layers * layer
    outputs = torch.cat(model())
    torch.testing.assert_close(outputs, output, rtol=1e-6, atol=1e-6)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).double()
    tables = model.user_table, model.item_table
    got, want = (torch.autograd.grad((o * weights).sum(), tables) for o in (outputs, output))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_every_graph_loss_is_here():
    names = {name for name, spec in LOSSES.items() if spec.kind == "graph"}
    assert names == {"sgl", "simgcl", "xsimgcl", "ncl", "mixrec", "au-plus", "advdrop"}
