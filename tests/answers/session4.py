"""Answers to the exercises of session 4."""

import math
import random
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from answers import right, wrong
from course_lib.models import LambdaLayer

# --- content_lambda -----------------------------------------------------------------------------


@right("content_lambda")
def in_einsums_letters(keys, values):
    return torch.einsum("bkm,bvm->bkv", keys.softmax(-1), values)


@right("content_lambda")
def softmax_by_hand(keys, values):
    e = torch.exp(keys - keys.max(dim=2, keepdim=True).values)
    k = e / e.sum(dim=2, keepdim=True)
    return torch.bmm(k, values.permute(0, 2, 1))


@right("content_lambda")
def product_the_other_way(keys, values):
    return (values @ F.softmax(keys, 2).mT).mT


@right("content_lambda")
def broadcast_and_summed(keys, values):
    shares = nn.Softmax(dim=2)(keys)
    return (shares[:, :, None, :] * values[:, None, :, :]).sum(3)


@right("content_lambda")
def position_by_position(keys, values):
    shares = torch.softmax(keys.double(), dim=-1)
    total = torch.zeros(keys.shape[0], keys.shape[1], values.shape[1], dtype=torch.float64)
    for m in range(keys.shape[-1]):
        total += shares[:, :, m].unsqueeze(2) * values[:, :, m].unsqueeze(1)
    return total


@right("content_lambda")
def divided_at_the_end(keys, values):
    e = keys.exp()
    return e @ values.transpose(-2, -1) / e.sum(-1, keepdim=True)


@wrong("content_lambda", "over the depth k")
def softmax_over_the_depth(keys, values):
    return torch.softmax(keys, dim=1) @ values.transpose(1, 2)


@wrong("content_lambda", "over the pictures")
def softmax_over_the_batch(keys, values):
    return torch.einsum("bkm,bvm->bkv", torch.softmax(keys, 0), values)


@wrong("content_lambda", "over k and the positions together")
def one_softmax_for_all(keys, values):
    k = keys.flatten(1).softmax(1).view(keys.shape)
    return torch.einsum("bkm,bvm->bkv", k, values)


@wrong("content_lambda", "no softmax")
def bare_keys(keys, values):
    return keys @ values.mT


@wrong("content_lambda", "values .*softmax")
def softmax_of_the_values(keys, values):
    return keys @ values.softmax(2).mT


@wrong("content_lambda", "values .*softmax")
def softmax_of_both(keys, values):
    return keys.softmax(2) @ values.softmax(2).mT


@wrong("content_lambda", "softmax .* product")
def softmax_at_the_end(keys, values):
    return (keys @ values.mT).softmax(-1)


@wrong("content_lambda", r"transposed: its shape is \(B, v, k\)")
def values_first(keys, values):
    return values @ keys.softmax(-1).mT


@wrong("content_lambda", "keys and values are exchanged")
def exchanged(keys, values):
    return torch.einsum("bkm,bvm->bvk", keys, values.softmax(-1))


@wrong("content_lambda", "divided by the number of positions")
def mean_over_positions(keys, values):
    k = keys.softmax(2)
    return (k[:, :, None] * values[:, None]).mean(-1)


@wrong("content_lambda", "root of k")
def scaled_as_in_attention(keys, values):
    return (keys / keys.shape[1] ** 0.5).softmax(-1) @ values.mT


@wrong("content_lambda", "logarithms")
def log_softmax(keys, values):
    return F.log_softmax(keys, -1) @ values.mT


@wrong("content_lambda", "exp alone")
def not_normalised(keys, values):
    return keys.exp() @ values.mT


@wrong("content_lambda", "sum over everything")
def one_sum_of_all(keys, values):
    e = torch.exp(keys)
    return e / e.sum() @ values.mT


@wrong("content_lambda", "over k and the positions together")
def one_sum_a_picture(keys, values):
    out = []
    for key, value in zip(keys, values, strict=True):
        e = torch.exp(key)
        out.append(e / e.sum() @ value.T)
    return torch.stack(out)


@wrong("content_lambda", "all pictures")
def summed_over_pictures(keys, values):
    return torch.einsum("bkm,bvm->kv", keys.softmax(-1), values)


@wrong("content_lambda", "changes .*keys")
def in_place(keys, values):
    keys.sub_(keys.amax(2, keepdim=True)).exp_()
    keys.div_(keys.sum(2, keepdim=True))
    return keys @ values.mT


@wrong("content_lambda", "sigmoid")
def sigmoid(keys, values):
    return keys.sigmoid() @ values.mT


@wrong("content_lambda", "returns a list")
def as_a_list(keys, values):
    return (keys.softmax(-1) @ values.mT).tolist()


@wrong("content_lambda", "turn its last two axes")
def forgot_to_turn(keys, values):
    return keys.softmax(-1) @ values


@wrong("content_lambda", "turns all three axes round")
def turned_all_round(keys, values):
    return keys.softmax(-1) @ values.permute(*reversed(range(values.ndim)))  # as values.T does


@wrong("content_lambda", "raises RuntimeError")
def joins_what_does_not_fit(keys, values):
    return torch.cat([keys.softmax(-1), values.mT[..., None]])


@wrong("content_lambda", "no gradient leads back from the result")
def without_a_gradient(keys, values):
    with torch.no_grad():
        return keys.softmax(-1) @ values.mT


@wrong("content_lambda", "no gradient leads back from the result")
def by_way_of_numpy(keys, values):
    e = np.exp(keys.detach().numpy())
    shares = e / e.sum(axis=2, keepdims=True)
    return torch.from_numpy(shares @ values.detach().numpy().transpose(0, 2, 1))


@wrong("content_lambda", "largest position alone")
def hard_attention(keys, values):
    hot = F.one_hot(keys.argmax(-1), keys.shape[-1]).float()
    return hot @ values.mT


# --- position_lambdas ---------------------------------------------------------------------------


@right("position_lambdas")
def by_broadcast_products(embeddings, values):
    return embeddings.transpose(1, 2)[None] @ values.transpose(1, 2)[:, None]


@right("position_lambdas")
def in_two_loops(embeddings, values):
    n, _, k = embeddings.shape
    b, v, _ = values.shape
    out = torch.empty(b, n, k, v)
    for i in range(b):
        for j in range(n):
            out[i, j] = embeddings[j].T @ values[i].T
    return out


@right("position_lambdas")
def in_five_loops(embeddings, values):
    """As the definition has it, one number after the other."""
    n_places, n_positions, depth = embeddings.shape
    batch, width, _ = values.shape
    out = torch.zeros(batch, n_places, depth, width)
    for b in range(batch):
        for n in range(n_places):
            for m in range(n_positions):
                for i in range(depth):
                    for j in range(width):
                        out[b, n, i, j] += embeddings[n, m, i] * values[b, j, m]
    return out


@right("position_lambdas")
def by_tensordot(embeddings, values):
    return torch.tensordot(values, embeddings, dims=([2], [1])).permute(0, 2, 3, 1)


@right("position_lambdas")
def by_einsum_in_double(embeddings, values):
    return torch.einsum("bvm,nmk->bnkv", values.double(), embeddings.double())


@right("position_lambdas")
def one_large_product(embeddings, values):
    n, m, k = embeddings.shape
    flat = embeddings.permute(0, 2, 1).reshape(n * k, m)
    return torch.stack([(flat @ picture.T).view(n, k, -1) for picture in values])


@right("position_lambdas")
def summed_over_a_long_tensor(embeddings, values):
    e = embeddings.permute(0, 2, 1)[None, :, :, None, :]
    return (e * values[:, None, None, :, :]).sum(dim=-1)


@wrong("position_lambdas", "softmax")
def embeddings_normalised(embeddings, values):
    return torch.einsum("nmk,bvm->bnkv", embeddings.softmax(1), values)


@wrong("position_lambdas", "softmax")
def embeddings_normalised_over_k(embeddings, values):
    return torch.einsum("nmk,bvm->bnkv", embeddings.softmax(2), values)


@wrong("position_lambdas", "sums over the places")
def summed_over_places(embeddings, values):
    return torch.einsum("nmk,bvm->bkv", embeddings, values)


@wrong("position_lambdas", "last two axes are exchanged")
def values_before_k(embeddings, values):
    return torch.einsum("nmk,bvm->bnvk", embeddings, values)


@wrong("position_lambdas", "first two axes are exchanged")
def places_first(embeddings, values):
    return torch.einsum("nmk,bvm->nbkv", embeddings, values)


@wrong("position_lambdas", "mean")
def mean_over_m(embeddings, values):
    return torch.einsum("nmk,bvm->bnkv", embeddings, values) / values.shape[-1]


@wrong("position_lambdas", "N and M are exchanged")
def n_and_m_exchanged(embeddings, values):
    return torch.einsum("mnk,bvm->bnkv", embeddings, values)


@wrong("position_lambdas", "own place only")
def value_at_the_place(embeddings, values):
    return torch.einsum("nmk,bvn->bnkv", embeddings, values)


@wrong("position_lambdas", "reshape or view")
def reshaped_into_place(embeddings, values):
    n, m, k = embeddings.shape
    e = embeddings.reshape(n, k, m)
    return torch.einsum("nkm,bvm->bnkv", e, values)


@wrong("position_lambdas", "all pictures")
def summed_over_the_batch(embeddings, values):
    out = torch.einsum("nmk,bvm->nkv", embeddings, values)
    return out.expand(len(values), *out.shape)


@wrong("position_lambdas", "first picture")
def only_the_first_picture(embeddings, values):
    return torch.einsum("nmk,vm->nkv", embeddings, values[0])[None]


@wrong("position_lambdas", r"shape \(2, 2, 2\)")
def inner_sizes_that_differ(embeddings, values):
    return embeddings @ values


@wrong("position_lambdas", "tuple")
def a_tuple(embeddings, values):
    return torch.einsum("nmk,bvm->bnkv", embeddings, values), embeddings


@wrong("position_lambdas", "changes .*values")
def values_changed(embeddings, values):
    values *= 1.5
    return torch.einsum("nmk,bvm->bnkv", embeddings, values / 1.5)


@wrong("position_lambdas", "last position m gave is kept alone")
def written_over(embeddings, values):
    n_places, n_positions, depth = embeddings.shape
    out = torch.zeros(len(values), n_places, depth, values.shape[1])
    for b in range(len(values)):
        for n in range(n_places):
            for m in range(n_positions):
                out[b, n] = torch.outer(embeddings[n, m], values[b, :, m])
    return out


@wrong("position_lambdas", "no gradient leads back from the result")
def cut_off(embeddings, values):
    return torch.einsum("nmk,bvm->bnkv", embeddings, values).detach()


@wrong("position_lambdas", "last position is left out")
def last_position_forgotten(embeddings, values):
    return sum(
        embeddings[None, :, m, :, None] * values[:, None, None, :, m]
        for m in range(values.shape[2] - 1)
    ) + torch.zeros(len(values), embeddings.shape[0], embeddings.shape[2], values.shape[1])


# --- lambda_parameters --------------------------------------------------------------------------


@right("lambda_parameters")
def counted_on_the_layer(dim_in, dim_out, dim_k, heads, dim_u, r):
    layer = LambdaLayer(dim_in, dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r)
    return sum(p.numel() for p in layer.parameters())


@right("lambda_parameters")
def layers_of_torch(dim_in, dim_out, dim_k, heads, dim_u, r):
    dim_v = dim_out // heads
    parts = nn.ModuleList(
        [
            nn.Conv2d(dim_in, dim_k * heads, 1, bias=False),
            nn.Conv2d(dim_in, dim_k * dim_u, 1, bias=False),
            nn.Conv2d(dim_in, dim_v * dim_u, 1, bias=False),
            nn.BatchNorm2d(dim_k * heads),
            nn.BatchNorm2d(dim_v * dim_u),
            nn.Conv2d(dim_u, dim_k, r),
        ]
    )
    total = 0
    for weight in parts.parameters():
        total += weight.numel()
    return total


@right("lambda_parameters")
def in_one_line(d, o, k, h, u, r):
    return d * (k * h + k * u + o // h * u) + 2 * (k * h + o // h * u) + k * (u * r**2 + 1)


@right("lambda_parameters")
def as_a_tensor(dim_in, dim_out, dim_k, heads, dim_u, r):
    return torch.tensor(in_one_line(dim_in, dim_out, dim_k, heads, dim_u, r))


@right("lambda_parameters")
def with_numpys_numbers(dim_in, dim_out, dim_k, heads, dim_u, r):
    shapes = [
        (dim_k * heads, dim_in),
        (dim_k * dim_u, dim_in),
        (dim_out // heads * dim_u, dim_in),
        (2, dim_k * heads),
        (2, dim_out // heads * dim_u),
        (dim_k, dim_u, r, r),
        (dim_k,),
    ]
    return np.sum([np.prod(shape) for shape in shapes])


def count(
    *, q="d*k*h", keys="d*k*u", v="d*(o//h)*u", norms="2*k*h + 2*(o//h)*u", place="u*k*r*r + k"
):
    """The count as a sum of five terms, each as it stands in a student's line."""
    line = " + ".join([q, keys, v, norms, place])

    def answer(dim_in, dim_out, dim_k, heads, dim_u, r):
        letters = {"d": dim_in, "o": dim_out, "k": dim_k, "h": heads, "u": dim_u, "r": r}
        return eval(line, {}, letters)

    return answer


def wrong_count(cause, **how):
    wrong("lambda_parameters", cause)(count(**how))


wrong_count("convolution is left out", place="u*k*r*r")
wrong_count("both norms are left out", norms="0")
wrong_count("norm is counted for the keys", norms="2*k*h + 2*(o//h)*u + 2*k*u")
wrong_count("two numbers for each channel", norms="k*h + (o//h)*u")
wrong_count("running mean", norms="4*k*h + 4*(o//h)*u")
wrong_count("values have dim_out / heads", v="d*o*u", norms="2*k*h + 2*o*u")
wrong_count("queries are counted once", q="d*k", norms="2*k + 2*(o//h)*u")
wrong_count("counted for every head", keys="d*k*h*u")
wrong_count(
    "dim_u is left out", keys="d*k", v="d*(o//h)", norms="2*k*h + 2*(o//h)", place="k*r*r + k"
)
wrong_count("keys and values are counted for every head", keys="d*k*h*u", v="d*o*u")
wrong_count(
    "keys and values are counted for every head",
    keys="d*k*h*u",
    v="d*o*u",
    norms="2*k*h + 2*o*u",
)
wrong_count("norms and the bias .* are left out", norms="0", place="u*k*r*r")
wrong_count(  # each of its queries has a bias, too: known by nothing but what stands still
    "`dim_u` makes no difference",
    q="d*k*h + k*h",
    keys="d*k",
    v="d*(o//h)",
    norms="2*k*h + 2*(o//h)",
    place="k*r*r + k",
)
wrong_count("queries .*dim_u", q="d*k*h*u", norms="2*k*h*u + 2*(o//h)*u")
wrong_count("numbers for each channel, not r", place="u*k*r + k")
wrong_count("positions are left out", place="0")
wrong_count("serves all numbers of a value", place="u*k*(o//h)*r*r + k")
wrong_count("have a bias in it", q="d*k*h + k*h", keys="d*k*u + k*u", v="d*(o//h)*u + (o//h)*u")
wrong_count("norm of the values is left out", norms="2*k*h")
wrong_count("norm of the queries is left out", norms="2*(o//h)*u")
wrong_count("keys are left out", keys="0")
wrong_count("3×3 ones are counted", q="9*d*k*h", keys="9*d*k*u", v="9*d*(o//h)*u")
wrong_count("serves all heads", place="u*k*h*r*r + k*h")
wrong_count("has dim_k numbers", place="u*k*r*r + u")
wrong_count("has dim_k numbers", place="u*k*r*r + k*u")
wrong_count("has dim_k numbers", place="u*k*r*r + 1")
wrong_count("not two numbers in all", norms="2 + 2")
wrong_count("not dim_in", norms="2*d + 2*d")
wrong_count("2r − 1", place="u*k*(2*r-1)**2 + k")


@wrong("lambda_parameters", "number of tensors")
def number_of_tensors(dim_in, dim_out, dim_k, heads, dim_u, r):
    layer = LambdaLayer(dim_in, dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r)
    return len(list(layer.parameters()))


@wrong("lambda_parameters", "running statistics")
def state_counted(dim_in, dim_out, dim_k, heads, dim_u, r):
    layer = LambdaLayer(dim_in, dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r)
    return sum(t.numel() for t in layer.state_dict().values())


@wrong("lambda_parameters", "raises ValueError")
def the_layers_defaults(dim_in, dim_out, *rest):
    return sum(p.numel() for p in LambdaLayer(dim_in, dim_out).parameters())


@wrong("lambda_parameters", "raises NameError")
def a_name_that_is_not_there(dim_in, dim_out, dim_k, heads, dim_u, r):
    return dim_in * dim_k * heads + dim_in * dim_v  # noqa: F821


@wrong("lambda_parameters", "returns a LambdaLayer")
def the_layer_itself(dim_in, dim_out, dim_k, heads, dim_u, r):
    return LambdaLayer(dim_in, dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r)


# --- noisy_labels -------------------------------------------------------------------------------


@right("noisy_labels")
def one_label_at_a_time(labels, rate, classes, rng):
    noisy = labels.copy()
    for i in range(len(labels)):
        if rng.random() < rate:
            others = [c for c in range(classes) if c != labels[i]]
            noisy[i] = rng.choice(others)
    return noisy


@right("noisy_labels")
def drawn_until_it_differs(labels, rate, classes, rng):
    noisy = labels.copy()
    for i in np.flatnonzero(rng.random(len(labels)) < rate):
        while noisy[i] == labels[i]:
            noisy[i] = rng.integers(classes)
    return noisy


@right("noisy_labels")
def skipping_the_label(labels, rate, classes, rng):
    mask = rng.binomial(1, rate, size=labels.shape).astype(bool)
    other = rng.integers(0, classes - 1, size=labels.shape)
    other = other + (other >= labels)
    noisy = np.array(labels)
    noisy[mask] = other[mask]
    return noisy


@right("noisy_labels")
def a_row_of_the_transition_matrix(labels, rate, classes, rng):
    matrix = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(matrix, 1 - rate)
    return np.array([rng.choice(classes, p=matrix[label]) for label in labels])


@right("noisy_labels")
def shifts_of_the_wrong_ones_only(labels, rate, classes, rng):
    noisy = labels.copy()
    wrong_ones = rng.uniform(size=len(labels)) < rate
    noisy[wrong_ones] += rng.integers(1, classes, wrong_ones.sum())
    return noisy % classes


@right("noisy_labels")
def just_as_many_as_the_rate_says(labels, rate, classes, rng):
    count = round(rate * len(labels))
    chosen = rng.choice(len(labels), count, replace=False)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, classes, count)) % classes
    return noisy


@right("noisy_labels")
def a_list_in_the_end(labels, rate, classes, rng):
    return [
        int((label + rng.integers(1, classes)) % classes) if rng.random() < rate else int(label)
        for label in labels
    ]


@right("noisy_labels")
def nothing_to_do_at_rate_0(labels, rate, classes, rng):
    if rate == 0:
        return labels
    return shifts_of_the_wrong_ones_only(labels, rate, classes, rng)


@wrong("noisy_labels", "drawn as the right one again")
def drawn_again_once(labels, rate, classes, rng):
    noisy = labels.copy()
    for i in range(len(labels)):
        if rng.random() < rate:
            new = rng.integers(0, classes)
            if new == labels[i]:
                new = rng.integers(0, classes)
            noisy[i] = new
    return noisy


@wrong("noisy_labels", "right one again")
def drawn_from_all_classes(labels, rate, classes, rng):
    noisy = labels.copy()
    mask = rng.random(len(labels)) < rate
    noisy[mask] = rng.integers(0, classes, mask.sum())
    return noisy


@wrong("noisy_labels", "always the next class")
def always_the_next(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + 1) % classes, labels)


@wrong("noisy_labels", "changes the labels")
def labels_themselves(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    labels[mask] = (labels[mask] + rng.integers(1, classes, mask.sum())) % classes
    return labels


@wrong("noisy_labels", "changes the labels")
def an_alias_is_no_copy(labels, rate, classes, rng):
    noisy = labels
    for i in range(len(noisy)):
        if rng.random() < rate:
            noisy[i] = (noisy[i] + rng.integers(1, classes)) % classes
    return noisy


@wrong("noisy_labels", "draws from np.random")
def of_numpys_global_numbers(labels, rate, classes, rng):
    mask = np.random.rand(len(labels)) < rate
    return np.where(mask, (labels + np.random.randint(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "draws nothing from rng")
def of_pythons_random(labels, rate, classes, rng):
    return np.array(
        [
            random.choice([c for c in range(classes) if c != label])
            if random.random() < rate
            else label
            for label in labels.tolist()
        ]
    )


@wrong("noisy_labels", "draws nothing from rng")
def a_generator_of_its_own(labels, rate, classes, rng):
    rng = np.random.default_rng(0)
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "draws from np.random")
def half_of_it_global(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + np.random.randint(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "stays right")
def the_share_that_stays(labels, rate, classes, rng):
    mask = rng.random(len(labels)) > rate
    return np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "not in percent")
def rate_in_percent(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate / 100
    return np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "leaves out its end")
def end_does_not_come(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(
        mask, (labels + rng.integers(1, max(classes - 1, 2), len(labels))) % classes, labels
    )


@wrong("noisy_labels", "% classes")
def beyond_the_last_class(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, labels + rng.integers(1, classes, len(labels)), labels)


@wrong("noisy_labels", "first labels are made wrong")
def the_first_ones(labels, rate, classes, rng):
    noisy = labels.copy()
    count = round(rate * len(labels))
    noisy[:count] = (labels[:count] + rng.integers(1, classes, count)) % classes
    return noisy


@wrong("noisy_labels", "one number is to be drawn for each")
def one_draw_for_all(labels, rate, classes, rng):
    if rng.random() < rate:
        return (labels + rng.integers(1, classes, len(labels))) % classes
    return labels.copy()


@wrong("noisy_labels", "always 3 classes further on")
def one_shift_for_all(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + rng.integers(1, classes)) % classes, labels)


@wrong("noisy_labels", "chosen twice")
def chosen_with_replacement(labels, rate, classes, rng):
    noisy = labels.copy()
    chosen = rng.choice(len(labels), round(rate * len(labels)))
    noisy[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return noisy


@wrong("noisy_labels", "in another order")
def grouped_by_class(labels, rate, classes, rng):
    groups = []
    for c in range(classes):
        group = labels[labels == c]
        mask = rng.random(len(group)) < rate
        groups.append(np.where(mask, (c + rng.integers(1, classes, len(group))) % classes, group))
    return np.concatenate(groups)


@wrong("noisy_labels", "no label becomes class 3")
def classes_that_are_there(labels, rate, classes, rng):
    there = np.unique(labels)
    return np.array(
        [rng.choice(there[there != label]) if rng.random() < rate else label for label in labels]
    )


@wrong("noisy_labels", "order")
def every_second_label(labels, rate, classes, rng):
    noisy = labels.copy()
    if rate > 0:
        chosen = np.arange(0, len(labels), round(1 / rate))
        noisy[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return noisy


@wrong("noisy_labels", "no label is changed")
def nothing_happens(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    noisy = labels.copy()
    noisy[mask][:] = (labels[mask] + 1) % classes
    return noisy


@wrong("noisy_labels", "right one again")
def labels_shuffled(labels, rate, classes, rng):
    noisy = labels.copy()
    mask = rng.random(len(labels)) < rate
    noisy[mask] = rng.permutation(noisy[mask])
    return noisy


@wrong("noisy_labels", "as many as it is given")
def only_the_wrong_ones(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return (labels[mask] + rng.integers(1, classes, mask.sum())) % classes


@wrong("noisy_labels", "not equally likely")
def near_classes_first(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    shifts = np.minimum(rng.geometric(0.5, len(labels)), classes - 1)
    return np.where(mask, (labels + shifts) % classes, labels)


@wrong("noisy_labels", "True and False")
def the_mask(labels, rate, classes, rng):
    return rng.random(len(labels)) < rate


@wrong("noisy_labels", "tuple")
def labels_and_mask(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels), mask


@wrong("noisy_labels", "every label becomes wrong")
def rate_forgotten(labels, rate, classes, rng):
    return (labels + rng.integers(1, classes, len(labels))) % classes


@wrong("noisy_labels", "right one again")
def shifts_from_0(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, (labels + rng.integers(0, classes - 1, len(labels))) % classes, labels)


@wrong("noisy_labels", "labels change although the rate is 0")
def half_whatever_the_rate_is(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < 0.5
    return np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


@wrong("noisy_labels", "no label becomes class 2")
def always_class_0(labels, rate, classes, rng):
    mask = rng.random(len(labels)) < rate
    return np.where(mask, np.where(labels == 0, 1, 0), labels)


@wrong("noisy_labels", "float")
def labels_as_floats(labels, rate, classes, rng):
    noisy = np.zeros(len(labels))
    mask = rng.random(len(labels)) < rate
    noisy[:] = np.where(mask, (labels + rng.integers(1, classes, len(labels))) % classes, labels)
    return noisy


@wrong("noisy_labels", "raises")
def labels_called(labels, rate, classes, rng):
    return labels(rng.random(len(labels)) < rate)


# --- generalized_cross_entropy ------------------------------------------------------------------


@right("generalized_cross_entropy")
def through_cross_entropy(logits, labels, q=0.7):
    losses = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-q * losses)) / q).mean()


@right("generalized_cross_entropy")
def with_expm1(logits, labels, q=0.7):
    log_p = torch.log_softmax(logits, -1)
    return -torch.expm1(q * log_p[torch.arange(len(labels)), labels]).mean() / q


@right("generalized_cross_entropy")
def of_one_hot_labels(logits, labels, q=0.7):
    hot = F.one_hot(labels, logits.shape[1])
    log_p = (F.log_softmax(logits, 1) * hot).sum(1)
    return (1 - log_p.mul(q).exp()).sum() / (q * len(labels))


@right("generalized_cross_entropy")
def in_double(logits, labels, q=0.7):
    logits = logits.double()
    log_p = logits - logits.logsumexp(dim=1, keepdim=True)
    return torch.stack(
        [(1 - torch.exp(q * log_p[i, label])) / q for i, label in enumerate(labels)]
    ).mean()


@right("generalized_cross_entropy")
def with_a_floor_below_p(logits, labels, q=0.7):
    p = logits.softmax(1).gather(1, labels.view(-1, 1)).clamp(min=1e-7)
    return torch.mean((1 - p**q) / q)


@wrong("generalized_cross_entropy", "gradient .*nan")
def power_of_p(logits, labels, q=0.7):
    p = logits.softmax(1)[torch.arange(len(labels)), labels]
    return ((1 - p**q) / q).mean()


@wrong("generalized_cross_entropy", "loss is nan")
def bare_exponentials(logits, labels, q=0.7):
    e = logits.exp()
    p = e[torch.arange(len(labels)), labels] / e.sum(1)
    return ((1 - p**q) / q).mean()


@wrong("generalized_cross_entropy", "summed over the batch")
def summed(logits, labels, q=0.7):
    return ((1 - torch.exp(-q * F.cross_entropy(logits, labels, reduction="none"))) / q).sum()


@wrong("generalized_cross_entropy", "not divided by q")
def not_divided(logits, labels, q=0.7):
    return (1 - torch.exp(-q * F.cross_entropy(logits, labels, reduction="none"))).mean()


@wrong("generalized_cross_entropy", "cross-entropy itself")
def cross_entropy_itself(logits, labels, q=0.7):
    return F.cross_entropy(logits, labels)


@wrong("generalized_cross_entropy", "over the pictures of the batch")
def softmax_over_the_pictures(logits, labels, q=0.7):
    log_p = F.log_softmax(logits, 0).gather(1, labels[:, None])
    return ((1 - (q * log_p).exp()) / q).mean()


@wrong("generalized_cross_entropy", "largest probability")
def the_surest_class(logits, labels, q=0.7):
    log_p = F.log_softmax(logits, 1).amax(1)
    return ((1 - (q * log_p).exp()) / q).mean()


@wrong("generalized_cross_entropy", "power is taken of 1 − p")
def power_of_the_rest(logits, labels, q=0.7):
    p = (-F.cross_entropy(logits, labels, reduction="none")).exp()
    return ((1 - p) ** q / q).mean()


@wrong("generalized_cross_entropy", "mean of log p comes before")
def mean_before_the_power(logits, labels, q=0.7):
    return (1 - torch.exp(-q * F.cross_entropy(logits, labels))) / q


@wrong("generalized_cross_entropy", "all classes")
def all_classes(logits, labels, q=0.7):
    return ((1 - (q * F.log_softmax(logits, 1)).exp()) / q).mean()


@wrong("generalized_cross_entropy", "sign is wrong")
def upside_down(logits, labels, q=0.7):
    p = torch.exp(-q * F.cross_entropy(logits, labels, reduction="none"))
    return ((p - 1) / q).mean()


@wrong("generalized_cross_entropy", "default of `q` is 0.5")
def another_default(logits, labels, q=0.5):
    return through_cross_entropy(logits, labels, q)


@wrong("generalized_cross_entropy", "`q` makes no difference")
def q_forgotten(logits, labels, q=0.7):
    return through_cross_entropy(logits, labels, 0.7)


@wrong("generalized_cross_entropy", r"no gradient leads back .* \.item")
def a_float(logits, labels, q=0.7):
    return through_cross_entropy(logits, labels, q).item()


@wrong("generalized_cross_entropy", "no gradient leads back")
def a_new_leaf(logits, labels, q=0.7):
    return torch.tensor(through_cross_entropy(logits, labels, q).item(), requires_grad=True)


@wrong("generalized_cross_entropy", r"backward\(\) is called in it")
def backward_inside(logits, labels, q=0.7):
    loss = through_cross_entropy(logits, labels, q)
    loss.backward(retain_graph=True)
    return loss


@wrong("generalized_cross_entropy", "changes the tensor `labels`")
def labels_turned_in_place(logits, labels, q=0.7):
    log_p = F.log_softmax(logits, 1).gather(1, labels.unsqueeze_(1))
    return ((1 - (q * log_p).exp()) / q).mean()


@wrong("generalized_cross_entropy", "changes the tensor `logits`")
def logits_shifted_in_place(logits, labels, q=0.7):
    with torch.no_grad():
        logits -= logits.amax(1, keepdim=True) + 1
    return through_cross_entropy(logits, labels, q)


@wrong("generalized_cross_entropy", "no gradient leads back")
def detached(logits, labels, q=0.7):
    return through_cross_entropy(logits.detach(), labels, q)


@wrong("generalized_cross_entropy", "no gradient leads back")
def under_no_grad(logits, labels, q=0.7):
    with torch.no_grad():
        return through_cross_entropy(logits, labels, q)


@wrong("generalized_cross_entropy", "a single one, their mean")
def one_for_each(logits, labels, q=0.7):
    return (1 - torch.exp(-q * F.cross_entropy(logits, labels, reduction="none"))) / q


@wrong("generalized_cross_entropy", "logits themselves are taken for probabilities")
def no_softmax(logits, labels, q=0.7):
    p = logits[torch.arange(len(labels)), labels]
    return ((1 - p**q) / q).mean()


@wrong("generalized_cross_entropy", "holds back its gradient")
def weighted_without_a_gradient(logits, labels, q=0.7):
    losses = F.cross_entropy(logits, labels, reduction="none")
    p = torch.exp(-losses.detach())
    return ((1 - p**q) / q).mean() + 0 * losses.sum()


@wrong("generalized_cross_entropy", "focal loss")
def focal(logits, labels, q=0.7):
    losses = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-losses).exp()) ** q * losses).mean()


@wrong("generalized_cross_entropy", "raises")
def labels_as_an_axis(logits, labels, q=0.7):
    return F.log_softmax(logits, 1).gather(1, labels)


@wrong("generalized_cross_entropy", "a minus is missing")
def cross_entropy_taken_for_log_p(logits, labels, q=0.7):
    log_p = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - (q * log_p).exp()) / q).mean()


@wrong("generalized_cross_entropy", "power is taken of log p")
def power_of_log_p(logits, labels, q=0.7):
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None]).squeeze(1)
    return ((1 - log_p**q) / q).mean()


@wrong(
    "generalized_cross_entropy", r"shape \(1,\), expected a single one, their mean, without axes"
)
def one_axis_too_many(logits, labels, q=0.7):
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None]).squeeze(1)
    return ((1 - (q * log_p).exp()) / q).mean(dim=0, keepdim=True)


# --- keep_epoch ---------------------------------------------------------------------------------


@right("keep_epoch")
def with_a_count_of_bad_epochs(val_losses, patience):
    lowest, kept, bad = float("inf"), 0, 0
    for i, loss in enumerate(val_losses):
        if loss < lowest:
            lowest, kept, bad = loss, i, 0
        else:
            bad += 1
            if bad >= patience:
                break
    return kept


@right("keep_epoch")
def window_by_window(val_losses, patience):
    best = 0
    while True:
        ahead = val_losses[best + 1 : best + 1 + patience]
        better = [i for i, loss in enumerate(ahead) if loss < val_losses[best]]
        if not better:
            return best
        best += 1 + better[0]


@right("keep_epoch")
def with_numpy(val_losses, patience):
    losses = np.asarray(val_losses)
    lowest = np.minimum.accumulate(losses)
    improved = np.concatenate([[True], losses[1:] < lowest[:-1]])
    at = np.flatnonzero(improved)
    gaps = np.diff(at)
    stop = np.argmax(gaps > patience) if (gaps > patience).any() else len(at) - 1
    return at[stop]


@right("keep_epoch")
def with_min_and_index(val_losses, patience):
    for end in range(1, len(val_losses) + 1):
        seen = val_losses[:end]
        best = seen.index(min(seen))
        if end - 1 - best >= patience:
            return best
    return best


@right("keep_epoch")
def as_a_float(val_losses, patience):
    return float(with_min_and_index(val_losses, patience))


def stopping(
    *,
    better=lambda loss, low, before: loss < low,
    due=lambda bad, patience: bad >= patience,
    again=lambda bad: 0,
    result=lambda best, epoch, losses: best,
):
    """Early stopping with a count of bad epochs."""

    def answer(val_losses, patience):
        low, best, bad = val_losses[0], 0, 0
        for epoch in range(1, len(val_losses)):
            loss = val_losses[epoch]
            if better(loss, low, val_losses[epoch - 1]):
                low, best, bad = loss, epoch, again(bad)
            else:
                bad += 1
            if due(bad, patience):
                return result(best, epoch, val_losses)
        return result(best, len(val_losses) - 1, val_losses)

    return answer


def wrong_stop(cause, **how):
    wrong("keep_epoch", cause)(stopping(**how))


wrong_stop("as low as the best", better=lambda loss, low, before: loss <= low)
wrong_stop("an epoch late", due=lambda bad, patience: bad > patience)
wrong_stop("an epoch early", due=lambda bad, patience: bad and bad >= patience - 1)
wrong_stop("goes on after a better one", again=lambda bad: bad)
wrong_stop("epoch before", better=lambda loss, low, before: loss < before)
wrong_stop("at which the training stops", result=lambda best, epoch, losses: epoch)
wrong_stop("loss of the kept epoch", result=lambda best, epoch, losses: losses[best])
wrong_stop("from 1", result=lambda best, epoch, losses: best + 1)
wrong_stop("first bad epoch", due=lambda bad, patience: bad >= 1)
wrong_stop("a higher loss", better=lambda loss, low, before: loss > low)


@wrong("keep_epoch", "never stops")
def lowest_of_all(val_losses, patience):
    return int(np.argmin(val_losses))


@wrong("keep_epoch", "last epoch of all")
def the_last_epoch(val_losses, patience):
    return len(val_losses) - 1


@wrong("keep_epoch", "only the first epochs")
def lowest_of_the_first(val_losses, patience):
    return int(np.argmin(val_losses[: patience + 1]))


@wrong("keep_epoch", "epochs back from the last")
def patience_epochs_before_the_end(val_losses, patience):
    return stopping(result=lambda best, epoch, losses: epoch - patience)(val_losses, patience)


@wrong("keep_epoch", "epoch before ends the training")
def before_the_first_rise(val_losses, patience):
    for i in range(1, len(val_losses)):
        if val_losses[i] > val_losses[i - 1]:
            return i - 1
    return len(val_losses) - 1


@wrong("keep_epoch", "epoch at which the training stops")
def gives_where_it_stops(val_losses, patience):
    best = bad = 0
    for i in range(1, len(val_losses)):
        if val_losses[i] < val_losses[best]:
            best, bad = i, 0
        else:
            bad += 1
            if bad == patience:
                return i
    return best


@wrong("keep_epoch", "it gives the epoch before")
def gives_the_one_before_the_stop(val_losses, patience):
    best = bad = 0
    for i in range(1, len(val_losses)):
        if val_losses[i] < val_losses[best]:
            best, bad = i, 0
        else:
            bad += 1
        if bad == patience:
            return i - 1
    return best


@wrong("keep_epoch", "does not run out it gives the last")
def last_unless_stopped(val_losses, patience):
    low, bad = math.inf, 0
    for i, loss in enumerate(val_losses):
        if loss < low:
            low, bad = loss, 0
        else:
            bad += 1
            if bad == patience:
                return i - patience
    return len(val_losses) - 1


@wrong("keep_epoch", "first epoch is counted as a bad one")
def counts_down_from_the_first(val_losses, patience):
    best, left = 0, patience
    for i, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best, left = i, patience
        else:
            left -= 1
        if left == 0:
            break
    return best


@wrong("keep_epoch", "changes .*val_losses")
def taken_out_of_the_list(val_losses, patience):
    best, low, bad, epoch = 0, math.inf, 0, 0
    while val_losses and bad < patience:
        loss = val_losses.pop(0)
        if loss < low:
            best, low, bad = epoch, loss, 0
        else:
            bad += 1
        epoch += 1
    return best


@wrong("keep_epoch", "changes .*val_losses")
def sorted_in_place(val_losses, patience):
    kept = with_a_count_of_bad_epochs(list(val_losses), patience)
    val_losses.sort()
    return kept


@wrong("keep_epoch", "a return is missing")
def returns_only_when_it_stops(val_losses, patience):
    best = 0
    for i, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = i
        if i - best >= patience:
            return best


@wrong("keep_epoch", "raises IndexError")
def looks_beyond_the_end(val_losses, patience):
    best = 0
    for i in range(len(val_losses) + 1):
        if val_losses[i] < val_losses[best]:
            best = i
        if i - best >= patience:
            break
    return best


@wrong("keep_epoch", "tuple")
def epoch_and_loss(val_losses, patience):
    best = with_a_count_of_bad_epochs(val_losses, patience)
    return best, val_losses[best]


@wrong("keep_epoch", "come to an end")
def a_while_without_a_step(val_losses, patience):
    i = 0
    while i < len(val_losses):
        if val_losses[i] > val_losses[0]:
            i += 1
    return i


@wrong("keep_epoch", "as low as the best is not counted as a bad epoch")
def a_tie_is_not_bad(val_losses, patience):
    best, bad = 0, 0
    for e, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best, bad = e, 0
        elif loss > val_losses[best]:
            bad += 1
            if bad >= patience:
                break
    return best


@wrong("keep_epoch", "before it has looked at the last of")
def stops_before_it_looks(val_losses, patience):
    best, e = 0, 0
    while e < len(val_losses) and e - best != patience:
        if val_losses[e] < val_losses[best]:
            best = e
        e += 1
    return best


@wrong("keep_epoch", "first epoch is counted as a bad one, and it stops an epoch late")
def first_one_is_bad_and_one_more_is_looked_at(val_losses, patience):
    kept, low, bad = 0, val_losses[0], 0
    for e, loss in enumerate(val_losses):
        if loss < low:
            kept, low, bad = e, loss, 0
        else:
            bad += 1
        if bad > patience:
            break
    return kept


# --- standard_error -----------------------------------------------------------------------------


@right("standard_error")
def of_the_statistics_module(values):
    return statistics.stdev(values) / math.sqrt(len(values))


@right("standard_error")
def by_hand(values):
    n = len(values)
    mean = sum(values) / n
    return (sum((x - mean) ** 2 for x in values) / (n - 1) / n) ** 0.5


@right("standard_error")
def with_torch(values):
    runs = torch.tensor(values)
    return runs.std() / len(runs) ** 0.5


@right("standard_error")
def of_numpy_arrays(values):
    x = np.array(values, dtype=np.float32)
    return x.std(ddof=1) / np.sqrt(x.size)


@right("standard_error")
def the_other_way_to_n_minus_1(values):
    return np.std(values) / np.sqrt(len(values) - 1)


@wrong("standard_error", "squares are divided by n;")
def of_the_population(values):
    return np.std(values) / np.sqrt(len(values))


@wrong("standard_error", "standard deviation, of a single run")
def the_deviation_itself(values):
    return np.std(values, ddof=1)


@wrong("standard_error", "np.std alone")
def the_deviation_of_the_population(values):
    return np.std(values)


@wrong("standard_error", "divided by n; divide it by √n")
def divided_by_n(values):
    return np.std(values, ddof=1) / len(values)


@wrong("standard_error", "variance of the mean")
def the_variance(values):
    return np.var(values, ddof=1) / len(values)


@wrong("standard_error", "variance is divided by √n")
def variance_over_the_root(values):
    return np.var(values, ddof=1) / np.sqrt(len(values))


@wrong("standard_error", "twice")
def n_minus_1_twice(values):
    return np.std(values, ddof=1) / np.sqrt(len(values) - 1)


@wrong("standard_error", "mean itself")
def the_mean(values):
    return float(np.mean(values))


@wrong("standard_error", "half the range")
def half_the_range(values):
    return (max(values) - min(values)) / 2


@wrong("standard_error", "1.96")
def confidence_interval(values):
    return 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))


@wrong("standard_error", "divided by the mean")
def relative(values):
    return np.std(values, ddof=1) / np.sqrt(len(values)) / np.mean(values)


@wrong("standard_error", "absolute")
def mean_of_absolute_distances(values):
    mean = np.mean(values)
    return np.mean([abs(v - mean) for v in values]) / np.sqrt(len(values))


@wrong("standard_error", "root of the variance first")
def root_forgotten(values):
    n, mean = len(values), sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / (n - 1) / math.sqrt(n)


@wrong("standard_error", "not divided by n − 1")
def sum_not_divided(values):
    n, mean = len(values), sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / n**0.5)


@wrong("standard_error", "multiplied")
def multiplied(values):
    return np.std(values, ddof=1) * np.sqrt(len(values))


@wrong("standard_error", "changes .*values")
def centred_in_place(values):
    mean = sum(values) / len(values)
    for i in range(len(values)):
        values[i] -= mean
    return math.sqrt(sum(v * v for v in values) / (len(values) - 1) / len(values))


@wrong("standard_error", "median")
def around_the_median(values):
    n, middle = len(values), statistics.median(values)
    return math.sqrt(sum((v - middle) ** 2 for v in values) / (n - 1) / n)


@wrong("standard_error", "returns a str")
def as_text(values):
    return f"{np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"


@wrong("standard_error", "raises TypeError")
def of_a_list_minus_a_number(values):
    return math.sqrt(sum((values - sum(values) / len(values)) ** 2))


@wrong("standard_error", "it is rounded")
def rounded(values):
    return round(statistics.stdev(values) / len(values) ** 0.5, 2)


@wrong("standard_error", "an accuracy that is counted on n pictures")
def of_a_share(values):
    p, n = sum(values) / len(values), len(values)
    return (p * (1 - p) / n) ** 0.5


@wrong("standard_error", "an accuracy that is counted on n pictures")
def of_a_share_by_its_root(values):
    p = np.mean(values)
    return math.sqrt(p * (1 - p) / len(values))
