"""Answers to the exercises of session 5."""

import numpy as np
import torch
import torch.nn.functional as F

from answers import right, wrong

# --- class_activation_map -----------------------------------------------------------------------


@right("class_activation_map")
def in_einsums_letters(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features, weights[target])


@right("class_activation_map")
def picture_by_picture(features, weights, target):
    maps = []
    for feature, c in zip(features, target, strict=True):
        maps.append(torch.tensordot(weights[c], feature, dims=1))
    return torch.stack(maps)


@right("class_activation_map")
def logit_of_every_position(features, weights, target):
    scores = features.permute(0, 2, 3, 1) @ weights.T  # (B, h, w, classes)
    return scores[torch.arange(len(target)), :, :, target]


@right("class_activation_map")
def as_a_convolution(features, weights, target):
    maps = F.conv2d(features, weights[:, :, None, None])
    index = target[:, None, None, None].expand(-1, 1, *maps.shape[2:])
    return maps.gather(1, index).squeeze(1)


@right("class_activation_map")
def product_of_flat_maps(features, weights, target):
    flat = features.double().flatten(2)
    w = weights.double().index_select(0, target).unsqueeze(1)
    return torch.bmm(w, flat).view(features.shape[0], *features.shape[2:])


@wrong("class_activation_map", "ReLU")
def relu_of_the_map(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features, weights[target]).clamp(min=0)


@wrong("class_activation_map", "features go through a ReLU")
def relu_of_the_features(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features.relu(), weights[target])


@wrong("class_activation_map", "weights go through a ReLU")
def relu_of_the_weights(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features, weights.relu()[target])


@wrong("class_activation_map", "channels are averaged")
def mean_over_channels(features, weights, target):
    return (features * weights[target][:, :, None, None]).mean(1)


@wrong("class_activation_map", "channels are not summed")
def one_map_for_each_channel(features, weights, target):
    return features * weights[target][:, :, None, None]


@wrong("class_activation_map", "class of the first picture")
def one_class_for_all(features, weights, target):
    return torch.einsum("bchw,c->bhw", features, weights[target[0]])


@wrong("class_activation_map", "predicted class")
def the_predicted_class(features, weights, target):
    predicted = (features.mean((2, 3)) @ weights.T).argmax(1)
    return torch.einsum("bchw,bc->bhw", features, weights[predicted])


@wrong("class_activation_map", "maps of all classes")
def of_all_classes(features, weights, target):
    return torch.einsum("bchw,kc->bkhw", features, weights)


@wrong("class_activation_map", "column of the weights")
def columns_of_the_weights(features, weights, target):
    return torch.einsum("bchw,cb->bhw", features, weights[:, target])


@wrong("class_activation_map", "pooled")
def pooled_first(features, weights, target):
    pooled = features.mean((2, 3))
    return (pooled * weights[target]).sum(1)


@wrong("class_activation_map", "number of positions")
def divided_by_the_positions(features, weights, target):
    h, w = features.shape[2:]
    return torch.einsum("bchw,bc->bhw", features, weights[target]) / (h * w)


@wrong("class_activation_map", "stretched")
def stretched_already(features, weights, target):
    maps = torch.einsum("bchw,bc->bhw", features, weights[target])
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@wrong("class_activation_map", "all pictures")
def summed_over_pictures(features, weights, target):
    return torch.einsum("bchw,bc->hw", features, weights[target])


@wrong("class_activation_map", "channel of the number of the class")
def channel_of_the_class(features, weights, target):
    return features[torch.arange(len(target)), target % features.shape[1]]


@wrong("class_activation_map", "softmax")
def softmax_of_the_weights(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features, weights[target].softmax(1))


@wrong("class_activation_map", "absolute")
def absolute_weights(features, weights, target):
    return torch.einsum("bchw,bc->bhw", features, weights[target].abs())


@wrong("class_activation_map", "changes the tensor `features`")
def features_in_place(features, weights, target):
    features *= weights[target][:, :, None, None]
    return features.sum(1)


@wrong("class_activation_map", "meets rows and columns")
def axes_that_do_not_meet(features, weights, target):
    return (features * weights[target]).sum(1)


@wrong("class_activation_map", "height and width are exchanged")
def width_before_height(features, weights, target):
    return torch.einsum("bchw,bc->bwh", features, weights[target])


@wrong("class_activation_map", "returns a ndarray")
def as_numpy(features, weights, target):
    return np.einsum("bchw,bc->bhw", features.numpy(), weights[target].numpy())


@wrong("class_activation_map", "writes over")
def the_last_channel_wins(features, weights, target):
    out = torch.zeros(len(features), *features.shape[2:])
    for i, k in enumerate(target):
        for c in range(features.shape[1]):
            out[i] = weights[k, c] * features[i, c]
    return out


# --- channel_weights ----------------------------------------------------------------------------


@right("channel_weights")
def sum_over_the_number(gradients):
    return gradients.sum((-1, -2)) / gradients[0, 0].numel()


@right("channel_weights")
def adaptive_pooling(gradients):
    return F.adaptive_avg_pool2d(gradients, 1).flatten(1)


@right("channel_weights")
def one_axis_after_the_other(gradients):
    return gradients.mean(-1).mean(-1)


@right("channel_weights")
def in_two_loops(gradients):
    return torch.stack([torch.stack([g.mean() for g in picture]) for picture in gradients])


@right("channel_weights")
def of_flat_maps(gradients):
    return gradients.double().view(*gradients.shape[:2], -1).mean(2)


@wrong("channel_weights", "summed")
def summed(gradients):
    return gradients.sum((2, 3))


@wrong("channel_weights", "largest")
def maximum(gradients):
    return gradients.amax((2, 3))


@wrong("channel_weights", "absolute")
def mean_of_absolute_values(gradients):
    return gradients.abs().mean((2, 3))


@wrong("channel_weights", "ReLU is applied to the gradients")
def relu_of_the_gradients(gradients):
    return gradients.relu().mean((2, 3))


@wrong("channel_weights", "ReLU is applied to the means")
def relu_of_the_means(gradients):
    return gradients.mean((2, 3)).relu()


@wrong("channel_weights", "over the channels as well")
def over_channels_too(gradients):
    return gradients.mean((1, 2, 3))


@wrong("channel_weights", "over the pictures as well")
def over_pictures_too(gradients):
    return gradients.mean((0, 2, 3))


@wrong("channel_weights", "over the channels, and")
def over_channels_instead(gradients):
    return gradients.mean(1)


@wrong("channel_weights", "rows alone")
def over_rows(gradients):
    return gradients.mean(2)


@wrong("channel_weights", "columns alone")
def over_columns(gradients):
    return gradients.mean(-1)


@wrong("channel_weights", r"keepdim.*\(B, C, 1, 1\)")
def kept_axes(gradients):
    return gradients.mean((2, 3), keepdim=True)


@wrong("channel_weights", "a single number")
def of_everything(gradients):
    return gradients.mean()


@wrong("channel_weights", "median")
def median(gradients):
    return gradients.flatten(2).median(2).values


@wrong("channel_weights", "add up to 1")
def normalised(gradients):
    return gradients.mean((2, 3)).softmax(1)


@wrong("channel_weights", "sign")
def negative(gradients):
    return -gradients.mean((2, 3))


@wrong("channel_weights", "squares")
def norm(gradients):
    return gradients.square().mean((2, 3)).sqrt()


@wrong("channel_weights", "middle")
def in_the_middle(gradients):
    h, w = gradients.shape[2:]
    return gradients[:, :, h // 2, w // 2]


@wrong("channel_weights", "height alone")
def divided_by_the_height(gradients):
    return gradients.sum((2, 3)) / gradients.shape[2]


@wrong("channel_weights", "changes the tensor `gradients`")
def in_place(gradients):
    return gradients.div_(gradients[0, 0].numel()).sum((2, 3))


# --- grad_cam_maps ------------------------------------------------------------------------------


@right("grad_cam_maps")
def by_einsum(features, gradients):
    return torch.einsum("bchw,bc->bhw", features, gradients.mean((2, 3))).clamp(min=0)


@right("grad_cam_maps")
def one_picture_at_a_time(features, gradients):
    out = torch.zeros(features.shape[0], *features.shape[2:])
    for b in range(len(features)):
        for c in range(features.shape[1]):
            out[b] += gradients[b, c].mean() * features[b, c]
    return torch.maximum(out, torch.zeros_like(out))


@right("grad_cam_maps")
def by_a_grouped_product(features, gradients):
    w = F.adaptive_avg_pool2d(gradients, 1).flatten(2).transpose(1, 2)  # (B, 1, C)
    return F.relu(w @ features.flatten(2)).view(len(features), *features.shape[2:])


@right("grad_cam_maps")
def where_it_is_positive(features, gradients):
    w = gradients.double().mean(-1).mean(-1)[..., None, None]
    total = (w * features).sum(1)
    return torch.where(total > 0, total, 0.0)


@wrong("grad_cam_maps", "ReLU at the end is missing")
def no_relu(features, gradients):
    return torch.einsum("bchw,bc->bhw", features, gradients.mean((2, 3)))


@wrong("grad_cam_maps", "ReLU is applied to the features")
def relu_before_the_sum(features, gradients):
    return torch.einsum("bchw,bc->bhw", features.relu(), gradients.mean((2, 3))).relu()


@wrong("grad_cam_maps", "ReLU is applied to the weights")
def positive_weights(features, gradients):
    return torch.einsum("bchw,bc->bhw", features, gradients.mean((2, 3)).relu()).relu()


@wrong("grad_cam_maps", "ReLU is applied to the gradients")
def positive_gradients(features, gradients):
    return torch.einsum("bchw,bc->bhw", features, gradients.relu().mean((2, 3))).relu()


@wrong("grad_cam_maps", "ReLU is applied to each channel")
def relu_of_each_channel(features, gradients):
    return (gradients.mean((2, 3), True) * features).relu().sum(1)


@wrong("grad_cam_maps", "HiResCAM")
def position_by_position(features, gradients):
    return (gradients * features).sum(1).relu()


@wrong("grad_cam_maps", "LayerCAM")
def layer_cam(features, gradients):
    return (gradients.relu() * features).sum(1).relu()


@wrong("grad_cam_maps", "XGradCAM")
def xgrad_cam(features, gradients):
    w = (gradients * features).sum((2, 3), True) / (features.sum((2, 3), True) + 1e-7)
    return (w * features).sum(1).relu()


@wrong("grad_cam_maps", "exchanged")
def roles_exchanged(features, gradients):
    return (features.mean((2, 3), True) * gradients).sum(1).relu()


@wrong("grad_cam_maps", "sum of its gradients")
def weights_summed(features, gradients):
    return (gradients.sum((2, 3), True) * features).sum(1).relu()


@wrong("grad_cam_maps", "channels are averaged")
def channels_averaged(features, gradients):
    return (gradients.mean((2, 3), True) * features).mean(1).relu()


@wrong("grad_cam_maps", "channels are not summed")
def channels_left(features, gradients):
    return (gradients.mean((2, 3), True) * features).relu()


@wrong("grad_cam_maps", "absolute")
def absolute_map(features, gradients):
    return (gradients.mean((2, 3), True) * features).sum(1).abs()


@wrong("grad_cam_maps", "stretched")
def stretched_to_one(features, gradients):
    maps = (gradients.mean((2, 3), True) * features).sum(1).relu()
    return maps / (maps.amax((1, 2), True) + 1e-8)


@wrong("grad_cam_maps", "all pictures")
def weights_of_the_batch(features, gradients):
    return (gradients.mean((0, 2, 3))[None, :, None, None] * features).sum(1).relu()


@wrong("grad_cam_maps", r"keepdim=True is forgotten")
def weights_meet_the_map(features, gradients):
    return (gradients.mean((2, 3)) * features).sum(1).relu()


@wrong("grad_cam_maps", r"an axis of length 1")
def axis_kept(features, gradients):
    return (gradients.mean((2, 3), True) * features).sum(1, keepdim=True).relu()


@wrong("grad_cam_maps", "changes the tensor `features`")
def multiplied_in_place(features, gradients):
    return features.mul_(gradients.mean((2, 3), True)).sum(1).relu()


@wrong("grad_cam_maps", "first picture")
def first_picture(features, gradients):
    w = gradients[0].mean((1, 2))
    return torch.einsum("c,bchw->bhw", w, features).relu()


@wrong("grad_cam_maps", "without their weights")
def bare_sum(features, gradients):
    return features.sum(1).relu()


@wrong("grad_cam_maps", "maximum of all pictures")
def over_the_highest_of_all(features, gradients):
    maps = (features * gradients.mean((2, 3), keepdim=True)).sum(1).relu()
    return maps / maps.max()


@wrong("grad_cam_maps", "writes over")
def the_last_channel_alone(features, gradients):
    maps = []
    for a, g in zip(features, gradients, strict=True):
        for channel in range(len(a)):
            evidence = g[channel].mean() * a[channel]
        maps.append(evidence.relu())
    return torch.stack(maps)


# --- stretch ------------------------------------------------------------------------------------


@right("stretch")
def with_a_small_number_below(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (maps - low) / (high - low + 1e-8)


@right("stretch")
def where_the_map_is_not_flat(maps):
    found = []
    for one in maps:
        low, high = one.min(), one.max()
        flat = bool(high == 0 and low == 0)
        found.append(one if flat else (one - low) / (high - low))
    return torch.stack(found)


@right("stretch")
def with_a_clamp(maps):
    m = maps - maps.flatten(1).min(1).values.view(-1, 1, 1)
    return m / m.flatten(1).max(1).values.clamp_min(1e-7).view(-1, 1, 1)


@right("stretch")
def map_by_map(maps):
    out = torch.zeros_like(maps)
    for i, one in enumerate(maps):
        if one.max() > one.min():
            out[i] = (one - one.min()) / (one.max() - one.min())
    return out


@right("stretch")
def nan_to_zero(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return torch.nan_to_num((maps - low) / (high - low))


@right("stretch")
def in_double(maps):
    m = maps.double().numpy()
    low, high = m.min((1, 2), keepdims=True), m.max((1, 2), keepdims=True)
    return torch.from_numpy((m - low) / np.where(high > low, high - low, 1))


@wrong("stretch", "divided by the maximum alone")
def maximum_alone(maps):
    return maps / maps.amax((1, 2), True).clamp_min(1e-8)


@wrong("stretch", "add up to 0")
def nothing_where_the_sum_is_zero(maps):
    found = []
    for one in maps:
        if one.sum() == 0:
            found.append(one)
        else:
            found.append((one - one.min()) / (one.max() - one.min()))
    return torch.stack(found)


@wrong("stretch", "highest value is not above 0")
def only_maps_above_zero(maps):
    out = maps.clone()
    for i, one in enumerate(maps):
        if one.max() > 0:
            out[i] = (one - one.min()) / (one.max() - one.min())
    return out


@wrong("stretch", "highest value is not above 0")
def zeros_unless_above_zero(maps):
    out = torch.zeros_like(maps)
    for i, one in enumerate(maps):
        if one.max() > 0:
            out[i] = (one - one.min()) / (one.max() - one.min())
    return out


@wrong("stretch", "divided by the maximum alone")
def maximum_alone_map_by_map(maps):
    return torch.stack([one / one.max() for one in maps])


@wrong("stretch", "divided by the maximum after")
def lowest_away_then_the_old_maximum(maps):
    out = maps.clone()
    for i in range(len(maps)):
        out[i] -= out[i].min()
        out[i] /= maps[i].max().clamp(min=1e-6)
    return out


@wrong("stretch", "maximum of all maps")
def one_maximum_for_all(maps):
    return maps / maps.max()


@wrong("stretch", "of all maps")
def of_the_whole_batch(maps):
    return (maps - maps.min()) / (maps.max() - maps.min() + 1e-8)


@wrong("stretch", "nan, .* stays zeros")
def nothing_over_nothing(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (maps - low) / (high - low)


@wrong("stretch", "lowest value is not subtracted")
def lowest_left(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return maps / (high - low + 1e-8)


@wrong("stretch", "divided by the maximum after")
def divided_by_the_old_maximum(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (maps - low) / (high + 1e-8)


@wrong("stretch", "only shifted")
def only_shifted(maps):
    return maps - maps.amin((1, 2), True)


@wrong("stretch", "each row")
def row_by_row(maps):
    low, high = maps.amin(2, True), maps.amax(2, True)
    return (maps - low) / (high - low + 1e-8)


@wrong("stretch", "each column")
def column_by_column(maps):
    low, high = maps.amin(1, True), maps.amax(1, True)
    return (maps - low) / (high - low + 1e-8)


@wrong("stretch", "each position")
def over_the_batch(maps):
    low, high = maps.amin(0, True), maps.amax(0, True)
    return (maps - low) / (high - low + 1e-8)


@wrong("stretch", "add up to 1")
def sums_to_one(maps):
    m = maps - maps.amin((1, 2), True)
    return m / m.sum((1, 2), True).clamp_min(1e-8)


@wrong("stretch", "sigmoid")
def sigmoid(maps):
    return maps.sigmoid()


@wrong("stretch", "cut off")
def clamped(maps):
    return maps.clamp(0, 1)


@wrong("stretch", "upside down")
def upside_down(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (high - maps) / (high - low + 1e-8)


@wrong("stretch", "255")
def to_bytes(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return 255 * (maps - low) / (high - low + 1e-8)


@wrong("stretch", "small number .* too large")
def large_epsilon(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (maps - low) / (high - low + 1e-2)


@wrong("stretch", "standard deviation")
def standardised(maps):
    mean, std = maps.mean((1, 2), keepdim=True), maps.std((1, 2), keepdim=True)
    return (maps - mean) / (std + 1e-8)


@wrong("stretch", "negative values are cut off")
def relu_first(maps):
    maps = maps.relu()
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return (maps - low) / (high - low + 1e-8)


@wrong("stretch", "changes the tensor `maps`")
def in_place_stretch(maps):
    maps -= maps.amin((1, 2), True)
    maps /= maps.amax((1, 2), True).clamp_min(1e-8)
    return maps


@wrong("stretch", "-1 to 1|−1 to 1")
def to_minus_one(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return 2 * (maps - low) / (high - low + 1e-8) - 1


@wrong("stretch", "zeros .* ones|becomes 1")
def zeros_become_ones(maps):
    low, high = maps.amin((1, 2), True), maps.amax((1, 2), True)
    return torch.where(high > low, (maps - low) / (high - low), 1.0)


@wrong("stretch", "divided by the maximum after")
def old_maximum_where_above_zero(maps):
    out = maps.clone()
    for i in range(len(maps)):
        out[i] -= out[i].min()
        if maps[i].max() > 0:
            out[i] /= maps[i].max()
    return out


@wrong("stretch", "divided by the maximum alone")
def maximum_where_above_zero(maps):
    return torch.stack([one / one.max() if one.max() > 0 else one for one in maps])


# --- pointing_game ------------------------------------------------------------------------------


def inside(maps, boxes, *, ends=1):
    """As masks, (B, H, W)."""
    masks = torch.zeros(maps.shape, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
        mask[y0 : y1 + ends, x0 : x1 + ends] = True
    return masks


@right("pointing_game")
def by_unravel_index(maps, boxes):
    y, x = torch.unravel_index(maps.flatten(1).argmax(1), maps.shape[1:])
    x0, y0, x1, y1 = boxes.T
    within = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
    return within & (maps.amax((1, 2)) > 0)


@right("pointing_game")
def by_masks(maps, boxes):
    at = maps.flatten(1).argmax(1)
    hit = inside(maps, boxes).flatten(1).gather(1, at[:, None])[:, 0]
    return hit & maps.flatten(1).any(1)


@right("pointing_game")
def with_loops(maps, boxes):
    hits = []
    for one, (x0, y0, x1, y1) in zip(maps.tolist(), boxes.tolist(), strict=True):
        best, at = 0, None
        for y, row in enumerate(one):
            for x, value in enumerate(row):
                if value > best:
                    best, at = value, (x, y)
        hits.append(at is not None and x0 <= at[0] <= x1 and y0 <= at[1] <= y1)
    return torch.tensor(hits)


@right("pointing_game")
def with_divmod(maps, boxes):
    hits = torch.zeros(len(maps), dtype=torch.bool)
    for i in range(len(maps)):
        y, x = divmod(int(maps[i].argmax()), maps.shape[2])
        box = boxes[i]
        hits[i] = maps[i].max() > 0 and box[0] <= x <= box[2] and box[1] <= y <= box[3]
    return hits


@right("pointing_game")
def with_numpy(maps, boxes):
    hits = []
    for one, (x0, y0, x1, y1) in zip(maps.numpy(), boxes.numpy(), strict=True):
        y, x = np.unravel_index(one.argmax(), one.shape)
        hits.append(bool(one[y, x] > 0 and x0 <= x < x1 + 1 and y0 <= y < y1 + 1))
    return torch.tensor(hits)


def points(maps):
    at = maps.flatten(1).argmax(1)
    return at % maps.shape[2], at // maps.shape[2]


@wrong("pointing_game", "x and y are exchanged")
def x_and_y_exchanged(maps, boxes):
    y, x = points(maps)
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "divided by the height")
def divided_by_height(maps, boxes):
    at = maps.flatten(1).argmax(1)
    y, x = at // maps.shape[1], at % maps.shape[1]
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "both ends|end")
def end_left_out(maps, boxes):
    x, y = points(maps)
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "begins")
def beginning_left_out(maps, boxes):
    x, y = points(maps)
    x0, y0, x1, y1 = boxes.T
    return (x0 < x) & (x <= x1) & (y0 < y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "map of zeros")
def zeros_are_a_hit(maps, boxes):
    x, y = points(maps)
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)


@wrong("pointing_game", "width and height")
def box_with_width_and_height(maps, boxes):
    x, y = points(maps)
    x0, y0, w, h = boxes.T
    return (x0 <= x) & (x < x0 + w) & (y0 <= y) & (y < y0 + h) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "x and y are exchanged.* x0, y0, x1, y1")
def rows_first(maps, boxes):
    x, y = points(maps)
    y0, x0, y1, x1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "equally high .* first")
def any_of_the_highest(maps, boxes):
    high = maps.amax((1, 2), True)
    return ((maps == high) & (high > 0) & inside(maps, boxes)).flatten(1).any(1)


@wrong("pointing_game", "equally high .* first")
def the_last_of_the_highest(maps, boxes):
    at = maps[0].numel() - 1 - maps.flatten(1).flip(1).argmax(1)
    return inside(maps, boxes).flatten(1).gather(1, at[:, None])[:, 0] & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "only the columns")
def only_x(maps, boxes):
    x, _ = points(maps)
    return (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "only the rows")
def only_y(maps, boxes):
    _, y = points(maps)
    return (boxes[:, 1] <= y) & (y <= boxes[:, 3]) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "lowest point")
def the_lowest_point(maps, boxes):
    x, y = points(-maps)
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "share of hits")
def the_mean(maps, boxes):
    return by_masks(maps, boxes).float().mean()


@wrong("pointing_game", "torch.float32, expected torch.bool")
def as_floats(maps, boxes):
    return by_masks(maps, boxes).float()


@wrong("pointing_game", "returns a list")
def as_a_list(maps, boxes):
    return by_masks(maps, boxes).tolist()


@wrong("pointing_game", "highest point of all maps")
def of_the_whole_batch_at_once(maps, boxes):
    at = int(maps.argmax()) % maps[0].numel()
    y, x = at // maps.shape[2], at % maps.shape[2]
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "the other way round|missed")
def misses(maps, boxes):
    return ~by_masks(maps, boxes)


@wrong("pointing_game", "by their sums")
def highest_row_and_column(maps, boxes):
    y, x = maps.sum(2).argmax(1), maps.sum(1).argmax(1)
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "centre of (mass|gravity)")
def centre_of_mass(maps, boxes):
    total = maps.sum((1, 2)).clamp_min(1e-9)
    y = (maps.sum(2) * torch.arange(maps.shape[1])).sum(1) / total
    x = (maps.sum(1) * torch.arange(maps.shape[2])).sum(1) / total
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (maps.amax((1, 2)) > 0)


@wrong("pointing_game", "inside is higher|mean")
def higher_inside_on_average(maps, boxes):
    masks = inside(maps, boxes)
    within = (maps * masks).sum((1, 2)) / masks.sum((1, 2))
    beyond = (maps * ~masks).sum((1, 2)) / (~masks).sum((1, 2)).clamp_min(1)
    return within > beyond


@wrong("pointing_game", "no whole number: .* width")
def row_by_true_division(maps, boxes):
    hits = []
    for map_, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        at = map_.flatten().argmax().item()
        x, y = at % map_.shape[1], at / map_.shape[1]
        hits.append(bool(x0 <= x <= x1 and y0 <= y <= y1 and map_.max() > 0))
    return torch.tensor(hits)


@wrong("pointing_game", "& comes before <=")
def no_brackets_between_numbers(maps, boxes):
    hits = []
    for map_, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        y, x = divmod(map_.argmax().item(), map_.shape[1])
        hits.append(bool(map_.max() > 0 and x0 <= x <= x1 & y0 <= y <= y1))
    return torch.tensor(hits)


@wrong("pointing_game", "& comes before <=")
def no_brackets_between_tensors(maps, boxes):
    at = maps.flatten(1).argmax(1)
    x, y = at % maps.shape[2], at // maps.shape[2]
    x0, y0, x1, y1 = boxes.T
    return x0 <= x & x <= x1 & y0 <= y & y <= y1


@wrong("pointing_game", "first corner, at place 0")
def place_zero_is_nowhere(maps, boxes):
    at = maps.flatten(1).argmax(1)
    x, y = at % maps.shape[2], at // maps.shape[2]
    x0, y0, x1, y1 = boxes.T
    return (at > 0) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


# --- energy_in_box ------------------------------------------------------------------------------


@right("energy_in_box")
def by_masks_and_a_clamp(maps, boxes):
    within = (maps * inside(maps, boxes)).sum((1, 2))
    return within / maps.sum((1, 2)).clamp_min(1e-12)


@right("energy_in_box")
def by_slices(maps, boxes):
    shares = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
        total = one.sum()
        shares.append(one[y0 : y1 + 1, x0 : x1 + 1].sum() / total if total > 0 else 0 * total)
    return torch.stack(shares)


@right("energy_in_box")
def by_einsum_of_rows_and_columns(maps, boxes):
    x0, y0, x1, y1 = boxes.T[..., None]
    x, y = torch.arange(maps.shape[2]), torch.arange(maps.shape[1])
    columns = ((x >= x0) & (x <= x1)).double()
    rows = ((y >= y0) & (y <= y1)).double()
    within = torch.einsum("bhw,bh,bw->b", maps.double(), rows, columns)
    return (within / maps.double().sum((1, 2))).nan_to_num(0)


@right("energy_in_box")
def with_a_small_number(maps, boxes):
    masks = inside(maps, boxes)
    within, beyond = (maps * masks).sum((1, 2)), (maps * ~masks).sum((1, 2))
    return within / (within + beyond + 1e-8)


def shares(maps, masks):
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-12)


def box_mask(maps, x0, y0, x1, y1, *, rows=True, columns=True):
    x = torch.arange(maps.shape[2]).view(1, 1, -1)
    y = torch.arange(maps.shape[1]).view(1, -1, 1)
    x0, y0, x1, y1 = (side.view(-1, 1, 1) for side in (x0, y0, x1, y1))
    mask = torch.ones(maps.shape, dtype=torch.bool)
    if columns:
        mask = mask & (x >= x0) & (x <= x1)
    return mask & (y >= y0) & (y <= y1) if rows else mask


@wrong("energy_in_box", "end")
def python_slices(maps, boxes):
    return shares(maps, inside(maps, boxes, ends=0))


@wrong("energy_in_box", "nan, .* its share is 0")
def zero_over_zero(maps, boxes):
    return (maps * inside(maps, boxes)).sum((1, 2)) / maps.sum((1, 2))


@wrong("energy_in_box", "y0, x0, y1, x1")
def energy_rows_first(maps, boxes):
    y0, x0, y1, x1 = boxes.T
    return shares(maps, box_mask(maps, x0, y0, x1, y1))


@wrong("energy_in_box", "not divided")
def bare_sum_inside(maps, boxes):
    return (maps * inside(maps, boxes)).sum((1, 2))


@wrong("energy_in_box", "sum outside")
def over_the_sum_outside(maps, boxes):
    masks = inside(maps, boxes)
    return (maps * masks).sum((1, 2)) / (maps * ~masks).sum((1, 2)).clamp_min(1e-12)


@wrong("energy_in_box", "share outside")
def the_share_outside(maps, boxes):
    return shares(maps, ~inside(maps, boxes))


@wrong("energy_in_box", "number of pixels")
def mean_inside(maps, boxes):
    masks = inside(maps, boxes)
    return (maps * masks).sum((1, 2)) / masks.sum((1, 2))


@wrong("energy_in_box", "share of the picture")
def area_of_the_box(maps, boxes):
    return inside(maps, boxes).float().mean((1, 2))


@wrong("energy_in_box", "all maps")
def total_of_all_maps(maps, boxes):
    return (maps * inside(maps, boxes)).sum((1, 2)) / maps.sum()


@wrong("energy_in_box", "all pictures|one number for each")
def mean_over_the_pictures(maps, boxes):
    return shares(maps, inside(maps, boxes)).mean()


@wrong("energy_in_box", "width and height")
def energy_with_width_and_height(maps, boxes):
    x0, y0, w, h = boxes.T
    return shares(maps, box_mask(maps, x0, y0, x0 + w - 1, y0 + h - 1))


@wrong("energy_in_box", "only the columns")
def only_columns(maps, boxes):
    return shares(maps, box_mask(maps, *boxes.T, rows=False))


@wrong("energy_in_box", "only the rows")
def only_rows(maps, boxes):
    return shares(maps, box_mask(maps, *boxes.T, columns=False))


@wrong("energy_in_box", "maximum")
def over_the_maximum(maps, boxes):
    return (maps * inside(maps, boxes)).sum((1, 2)) / maps.amax((1, 2)).clamp_min(1e-12)


@wrong("energy_in_box", "squares")
def squared(maps, boxes):
    return shares(maps.square(), inside(maps, boxes))


@wrong("energy_in_box", "first box")
def first_box_for_all(maps, boxes):
    return shares(maps, inside(maps, boxes[:1].expand_as(boxes)))


@wrong("energy_in_box", "begins")
def energy_beginning_left_out(maps, boxes):
    x0, y0, x1, y1 = boxes.T
    return shares(maps, box_mask(maps, x0 + 1, y0 + 1, x1, y1))


@wrong("energy_in_box", "changes the tensor `maps`")
def zeroed_outside(maps, boxes):
    total = maps.sum((1, 2)).clamp_min(1e-12)
    maps[~inside(maps, boxes)] = 0
    return maps.sum((1, 2)) / total


@wrong("energy_in_box", "percent")
def energy_in_percent(maps, boxes):
    return 100 * shares(maps, inside(maps, boxes))


@wrong("energy_in_box", "sum outside")
def inside_over_outside_where_there_is_any(maps, boxes):
    shares = torch.zeros(len(maps))
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        inside = maps[i, y0 : y1 + 1, x0 : x1 + 1].sum()
        outside = maps[i].sum() - inside
        if outside > 1e-7:
            shares[i] = inside / outside
    return shares


@wrong("energy_in_box", "cuts the rows twice")
def one_slice_after_the_other(maps, boxes):
    shares = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        shares.append(one[y0 : y1 + 1][x0 : x1 + 1].sum() / one.sum().clamp(min=1e-12))
    return torch.stack(shares)


@wrong("energy_in_box", "last row of the box")
def one_end_is_forgotten(maps, boxes):
    shares = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        shares.append(one[y0:y1, x0 : x1 + 1].sum() / one.sum().clamp(min=1e-12))
    return torch.stack(shares)


# --- iou ----------------------------------------------------------------------------------------


def bright(maps, threshold):
    high = maps.amax((1, 2), True)
    return (maps >= threshold * high) & (high > 0)


def overlap(a, b):
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2))


@right("iou")
def in_two_masks(maps, boxes, threshold=0.2):
    return overlap(bright(maps, threshold), inside(maps, boxes))


@right("iou")
def areas_added(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold).float(), inside(maps, boxes).float()
    both = (a * b).sum((1, 2))
    return both / (a.sum((1, 2)) + b.sum((1, 2)) - both)


@right("iou")
def of_sets(maps, boxes, threshold=0.2):
    out = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        level = threshold * one.max().item()
        shown = {
            (y, x)
            for y, row in enumerate(one.tolist())
            for x, value in enumerate(row)
            if value > 0 and value >= level
        }
        box = {(y, x) for y in range(y0, y1 + 1) for x in range(x0, x1 + 1)}
        out.append(len(shown & box) / len(shown | box))
    return torch.tensor(out)


@right("iou")
def of_maps_over_their_maximum(maps, boxes, threshold=0.2):
    relative = maps / maps.amax((1, 2), True)  # nan where the map is zero: not bright
    return overlap(relative >= threshold, inside(maps, boxes)).double()


@wrong("iou", "threshold .* as it is|not a share of the")
def absolute_threshold(maps, boxes, threshold=0.2):
    return overlap((maps >= threshold) & (maps > 0), inside(maps, boxes))


@wrong("iou", "reach the threshold|exactly")
def above_only(maps, boxes, threshold=0.2):
    return overlap(maps > threshold * maps.amax((1, 2), True), inside(maps, boxes))


@wrong("iou", "map of zeros")
def zeros_are_bright(maps, boxes, threshold=0.2):
    return overlap(maps >= threshold * maps.amax((1, 2), True), inside(maps, boxes))


@wrong("iou", "divided by the box")
def over_the_box(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold), inside(maps, boxes)
    return (a & b).sum((1, 2)) / b.sum((1, 2))


@wrong("iou", "divided by the (bright|thresholded)")
def over_the_bright_pixels(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold), inside(maps, boxes)
    return (a & b).sum((1, 2)) / a.sum((1, 2)).clamp_min(1)


@wrong("iou", "counted twice")
def areas_added_without_the_overlap(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold), inside(maps, boxes)
    return (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))


@wrong("iou", "Dice")
def dice(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold), inside(maps, boxes)
    return 2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))


@wrong("iou", "end")
def iou_end_left_out(maps, boxes, threshold=0.2):
    return overlap(bright(maps, threshold), inside(maps, boxes, ends=0)).nan_to_num(0)


@wrong("iou", "y0, x0, y1, x1")
def iou_rows_first(maps, boxes, threshold=0.2):
    y0, x0, y1, x1 = boxes.T
    return overlap(bright(maps, threshold), box_mask(maps, x0, y0, x1, y1))


@wrong("iou", "all maps")
def threshold_of_all_maps(maps, boxes, threshold=0.2):
    shown = (maps >= threshold * maps.max()) & (maps > 0)
    return overlap(shown, inside(maps, boxes))


@wrong("iou", "mean")
def share_of_the_mean(maps, boxes, threshold=0.2):
    shown = (maps >= threshold * maps.mean((1, 2), keepdim=True)) & (maps > 0)
    return overlap(shown, inside(maps, boxes))


@wrong("iou", "quantile|share of the pixels")
def brightest_share_of_pixels(maps, boxes, threshold=0.2):
    level = maps.flatten(1).quantile(1 - threshold, dim=1)[:, None, None]
    return overlap((maps >= level) & (maps > 0), inside(maps, boxes))


@wrong("iou", "default .* 0.5")
def other_default(maps, boxes, threshold=0.5):
    return in_two_masks(maps, boxes, threshold)


@wrong("iou", "`threshold` makes no difference")
def threshold_forgotten(maps, boxes, threshold=0.2):
    return in_two_masks(maps, boxes, 0.2)


@wrong("iou", "dark pixels|below the threshold")
def below_the_threshold(maps, boxes, threshold=0.2):
    shown = maps < threshold * maps.amax((1, 2), True)
    return overlap(shown, inside(maps, boxes))


@wrong("iou", "bounding box|rectangle")
def of_the_bounding_box(maps, boxes, threshold=0.2):
    shown = bright(maps, threshold)
    frames = torch.zeros_like(shown)
    for frame, one in zip(frames, shown, strict=True):
        if one.any():
            y, x = one.nonzero().T
            frame[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
    return overlap(frames, inside(maps, boxes))


@wrong("iou", "number of bright pixels in the box|not divided")
def intersection_alone(maps, boxes, threshold=0.2):
    return (bright(maps, threshold) & inside(maps, boxes)).sum((1, 2)).float()


@wrong("iou", "over all pictures|one number for each")
def one_for_the_batch(maps, boxes, threshold=0.2):
    return in_two_masks(maps, boxes, threshold).mean()


@wrong("iou", "width and height")
def iou_with_width_and_height(maps, boxes, threshold=0.2):
    x0, y0, w, h = boxes.T
    return overlap(bright(maps, threshold), box_mask(maps, x0, y0, x0 + w - 1, y0 + h - 1))


@wrong("iou", "not whole numbers|// ")
def whole_division(maps, boxes, threshold=0.2):
    a, b = bright(maps, threshold), inside(maps, boxes)
    return ((a & b).sum((1, 2)) // (a | b).sum((1, 2))).float()


@wrong("iou", "all pixels of the picture")
def over_the_picture(maps, boxes, threshold=0.2):
    return (bright(maps, threshold) & inside(maps, boxes)).float().mean((1, 2))


@wrong("iou", "sides of the box are x1 - x0")
def area_without_the_last_pixels(maps, boxes, threshold=0.2):
    found = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        bright = (one >= threshold * one.max()) & (one > 0)
        both = bright[y0 : y1 + 1, x0 : x1 + 1].sum()
        found.append(both / (bright.sum() + (x1 - x0) * (y1 - y0) - both))
    return torch.stack(found)


@wrong("iou", "cuts the rows twice")
def box_in_two_slices(maps, boxes, threshold=0.2):
    found = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        bright = (one >= threshold * one.max()) & (one > 0)
        box = torch.zeros_like(bright)
        box[y0 : y1 + 1][x0 : x1 + 1] = True
        found.append((bright & box).sum() / (bright | box).sum().clamp(min=1))
    return torch.stack(found)


@wrong("iou", "last column of the box")
def last_column_is_forgotten(maps, boxes, threshold=0.2):
    found = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        bright = (one >= threshold * one.max()) & (one > 0)
        box = torch.zeros_like(bright)
        box[y0 : y1 + 1, x0:x1] = True
        found.append((bright & box).sum() / (bright | box).sum().clamp(min=1))
    return torch.stack(found)


# --- deletion -----------------------------------------------------------------------------------


@right("deletion")
def all_pictures_at_once(predict, image, map_, steps):
    order = map_.flatten().argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    gone = torch.arange(steps + 1) * len(order) // steps
    keep = rank.view(1, 1, *map_.shape) >= gone.view(-1, 1, 1, 1)
    return predict(image * keep).mean()


@right("deletion")
def one_part_after_the_other(predict, image, map_, steps):
    picture = image.clone().flatten(1)
    probabilities = [predict(image[None])]
    for part in torch.argsort(-map_.ravel()).chunk(steps):
        picture[:, part] = 0
        probabilities.append(predict(picture.view_as(image)[None]))
    return torch.cat(probabilities).mean()


@right("deletion")
def with_topk_and_a_sum(predict, image, map_, steps):
    pixels = map_.numel()
    total = 0.0
    for step in range(steps + 1):
        mask = torch.ones(pixels)
        mask[map_.reshape(-1).topk(round(pixels * step / steps)).indices] = 0
        total += predict((image * mask.view(map_.shape)).unsqueeze(0)).item()
    return total / (steps + 1)


@right("deletion")
def with_numpys_order(predict, image, map_, steps):
    height, width = map_.shape
    order = np.argsort(-map_.numpy(), axis=None, kind="stable")
    ys, xs = np.unravel_index(order, (height, width))
    probabilities = []
    for k in np.linspace(0, height * width, steps + 1).astype(int):
        picture = image.clone()
        picture[:, ys[:k], xs[:k]] = 0
        with torch.no_grad():
            probabilities.append(float(predict(picture[None])))
    return np.mean(probabilities)


def greying(
    *,
    order=lambda map_: map_.flatten().argsort(descending=True),
    gone=lambda order, step, steps: order[: len(order) * step // steps],
    numbers=lambda steps: range(steps + 1),
    paint=lambda picture, image, at: picture.index_fill_(1, at, 0),
    result=lambda probabilities: probabilities.mean(),
):
    """Deletion in a loop over the steps."""

    def answer(predict, image, map_, steps):
        places, seen = order(map_), []
        for step in numbers(steps):
            picture = image.clone().flatten(1)
            paint(picture, image.flatten(1), gone(places, step, steps))
            seen.append(predict(picture.view(1, *image.shape)))
        return result(torch.cat(seen))

    return answer


def wrong_deletion(cause, **how):
    wrong("deletion", cause)(greying(**how))


wrong_deletion("least important", order=lambda map_: map_.flatten().argsort())
wrong_deletion("whole picture", numbers=lambda steps: range(1, steps + 1))
wrong_deletion("last", numbers=lambda steps: range(steps))
wrong_deletion("the whole one and the grey one", numbers=lambda steps: range(1, steps))
wrong_deletion("summed", result=lambda p: p.sum())
wrong_deletion("grey picture alone", result=lambda p: p[-1])
wrong_deletion("falls|fall of", result=lambda p: (p[0] - p).mean())
wrong_deletion("trapez", result=lambda p: torch.trapezoid(p, dx=1 / (len(p) - 1)))
wrong_deletion("single number", result=lambda p: p)
wrong_deletion("median", result=lambda p: p.median())
wrong_deletion("insertion", gone=lambda order, step, steps: order[len(order) * step // steps :])
wrong_deletion("as many pixels as steps|one pixel", gone=lambda order, step, steps: order[:step])
wrong_deletion(
    "part .* before|come back",
    gone=lambda order, step, steps: order[
        len(order) * max(step - 1, 0) // steps : len(order) * step // steps
    ],
)
wrong_deletion("to 1|white", paint=lambda picture, image, at: picture.index_fill_(1, at, 1))
wrong_deletion(
    "first channel",
    paint=lambda picture, image, at: picture[:1].index_fill_(1, at, 0),
)
wrong_deletion("map is not looked at", order=lambda map_: torch.arange(map_.numel()))


@wrong("deletion", "ranks|argsort gives")
def order_taken_for_ranks(predict, image, map_, steps):
    order = map_.flatten().argsort(descending=True).view(map_.shape)
    seen = []
    for step in range(steps + 1):
        keep = order >= step * map_.numel() // steps
        seen.append(predict((image * keep)[None]))
    return torch.cat(seen).mean()


@wrong("deletion", "equally high|height")
def by_thresholds_of_the_map(predict, image, map_, steps):
    levels = map_.flatten().sort(descending=True).values
    seen = [predict(image[None])]
    for step in range(1, steps + 1):
        level = levels[step * len(levels) // steps - 1]
        seen.append(predict((image * (map_ < level))[None]))
    return torch.cat(seen).mean()


@wrong("deletion", "changes the tensor `image`")
def greyed_in_place(predict, image, map_, steps):
    seen = [predict(image[None])]
    for part in map_.flatten().argsort(descending=True).chunk(steps):
        image.view(3, -1)[:, part] = 0
        seen.append(predict(image[None]))
    return torch.cat(seen).mean()


@wrong("deletion", "clone")
def one_tensor_kept_many_times(predict, image, map_, steps):
    picture, pictures = image.clone(), []
    for part in map_.flatten().argsort(descending=True).chunk(steps):
        pictures.append(picture)
        picture.view(3, -1)[:, part] = 0
    pictures.append(picture)
    return predict(torch.stack(pictures)).mean()


@wrong("deletion", r"pictures \(N, 3, H, W\)")
def a_picture_without_a_batch(predict, image, map_, steps):
    return predict(image)


@wrong("deletion", "mean of the picture")
def mean_of_the_picture(predict, image, map_, steps):
    flat, seen = image.flatten(1), []
    order = map_.flatten().argsort(descending=True)
    for step in range(steps + 1):
        picture = flat.clone()
        picture[:, order[: len(order) * step // steps]] = flat.mean(1, keepdim=True)
        seen.append(predict(picture.view(1, *image.shape)))
    return torch.cat(seen).mean()


@wrong("deletion", "whole picture alone|not greyed|nothing is greyed")
def the_whole_picture(predict, image, map_, steps):
    return predict(image[None]).mean()


@wrong("deletion", "multiplied")
def multiplied_by_the_map(predict, image, map_, steps):
    seen = [predict((image * (1 - map_ * step / steps))[None]) for step in range(steps + 1)]
    return torch.cat(seen).mean()


@wrong("deletion", "divided by the height")
def rows_by_the_height(predict, image, map_, steps):
    height = len(map_)
    order = map_.flatten().argsort(descending=True)
    seen = []
    for step in range(steps + 1):
        picture = image.clone()
        at = order[: len(order) * step // steps]
        picture[:, at // height, at % height] = 0
        seen.append(predict(picture[None]))
    return torch.cat(seen).mean()


@wrong("deletion", "`steps` makes no difference")
def four_steps(predict, image, map_, steps):
    return all_pictures_at_once(predict, image, map_, 4)


@wrong("deletion", "same pixels go at every step")
def the_same_topk_again(predict, image, map_, steps):
    part = map_.numel() // steps
    picture = image.clone()
    found = [predict(picture[None]).item()]
    for _ in range(steps):
        places = map_.flatten().topk(part).indices
        picture.flatten(1)[:, places] = 0
        found.append(predict(picture[None]).item())
    return sum(found) / len(found)
