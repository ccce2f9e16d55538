# --- evaluation -----------------------------------------------------------------------------------


def linear(classes, features=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))


def batches_of(sizes, classes, features=6):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            3 * torch.randn(size, features, generator=generator),
            torch.randint(classes, (size,), generator=generator),
        )
        for size in sizes
    ]


def by_hand(model, batches):
    """(loss, top-1, top-5) in numpy, float64, over all pictures at once."""
    with torch.no_grad():
        logits = torch.cat([model(x) for x, _ in batches]).double().numpy()
    labels = torch.cat([labels for _, labels in batches]).numpy()
    own = logits[np.arange(len(labels)), labels]
    loss = np.log(np.exp(logits).sum(1)) - own
    better = (logits > own[:, None]).sum(1)
    return loss.mean(), (better < 1).mean(), (better < 5).mean()


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_evaluate_averages_over_pictures_whatever_the_batches(classes):
    model, batches = linear(classes), batches_of([10, 10, 3], classes)
    found = evaluate(model, batches)
    assert (found.loss, found.top1, found.top5) == pytest.approx(by_hand(model, batches), abs=1e-6)
    assert found.images == 23
    if classes <= 5:
        assert found.top5 == 1
    means = np.mean([by_hand(model, [batch])[:2] for batch in batches], 0)
    assert abs(means[0] - found.loss) > 1e-4, "the mean of batch means would be another number"


def test_evaluate_with_mirror_images_takes_the_mean_of_the_logits():
    model, flat = linear(10, 24), batches_of([30, 7], 10, 24)
    batches = [(x.view(-1, 2, 3, 4), labels) for x, labels in flat]  # (B, C, H, W)

    def both(x):
        return (model(x) + model(x[..., [3, 2, 1, 0]])) / 2

    found = evaluate(model, batches, mirrored=True)
    assert (found.loss, found.top1, found.top5) == pytest.approx(by_hand(both, batches), abs=1e-6)
    assert abs(found.loss - evaluate(model, batches).loss) > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_puts_the_mode_back_and_leaves_statistics_and_gradients_alone(toys, training):
    model = small_net(dropout=0.5).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loader = BatchLoader(toys.tune, 20, augment=False)
    assert evaluate(model, loader) == evaluate(model, loader), "no dropout"
    assert model.training is training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluate_in_bf16_sums_in_full_precision():
    model, batches = linear(10), batches_of([300, 45], 10)
    found = evaluate(model, batches, precision=Precision(CPU, torch.bfloat16))
    loss, top1, _ = by_hand(model, batches)
    assert found.loss == pytest.approx(loss, rel=0.01) and found.top1 == pytest.approx(
        top1, abs=0.02
    )


def test_evaluate_puts_the_mode_back_after_an_error_too():
    model = linear(3).train()
    with pytest.raises(ValueError):
        evaluate(model, iter(lambda: int("no batch"), None))
    assert model.training


def test_evaluating_nothing_is_an_error():
    with pytest.raises(CourseError, match="no picture"):
        evaluate(linear(3), [])


# --- parameters and schedules ---------------------------------------------------------------------
# --- the loop -------------------------------------------------------------------------------------


def test_fit_learns_toy_shapes_and_writes_one_row_and_one_line_an_epoch(whole):
    losses = whole.history.column("train_loss")
    assert losses[-1] < 0.95 * losses[0]
    assert whole.history.column("val_loss")[-1] < math.log(10), (
        "better than chance on what was held out"
    )
    assert [row["epoch"] for row in whole.history.rows] == [1, 2, 3] and len(whole.lines) == 3
    assert f"{whole.history.last['val_top1']:.1%}" in whole.lines[-1]
    assert all(row["seconds"] > 0 and row["eval_seconds"] > 0 for row in whole.history.rows)


def test_the_steps_in_a_history_carry_the_rate_that_was_used(whole):
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.1, STEPS), 0.1, STEPS
    )
    assert [(step, lr) for step, lr, _ in whole.history.steps] == [(10, pytest.approx(rates[9]))]


def test_each_epoch_is_trained_and_looked_at_in_its_own_picture_size(toys):
    model, seen = small_net(), {True: set(), False: set()}
    model.register_forward_hook(
        lambda module, inputs, out: seen[module.training].add(tuple(inputs[0].shape[2:]))
    )
    history = train(toys, sizes=(8, None, 12), make_model=lambda: model).history
    assert history.column("picture_size") == [8, None, 12]
    assert seen[True] == seen[False] == {(8, 8), (16, 16), (12, 12)}


def test_train_loss_and_accuracy_are_means_over_the_pictures(toys):
    model = no_norm()
    loader = BatchLoader(toys.train, 20, augment=False, shuffle=True)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.0
    )  # nothing moves: the epoch is an evaluation
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), Precision(CPU))
    totals = train_one_epoch(trainer, loader, History())
    loss, top1, _ = by_hand(model, list(BatchLoader(toys.train, 120, augment=False)))
    assert totals["loss"] / totals["images"] == pytest.approx(loss, abs=1e-5)
    assert totals["right"] / totals["images"] == pytest.approx(top1)
    assert totals["images"] == 120 and totals["batches"] == BATCHES


def test_label_smoothing_mixes_in_the_mean_over_all_classes():
    (x, labels), *_ = batches_of([16], 10)
    model = linear(10)
    with torch.no_grad():
        log_p = torch.log_softmax(model(x).double(), 1)
    expected = 0.9 * -log_p[torch.arange(16), labels].mean() + 0.1 * -log_p.mean()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss, right = Trainer(
        model, optimizer, schedules.constant(optimizer), Precision(CPU), 0.1
    ).step(x, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert right == (log_p.argmax(1) == labels).sum()


def test_a_plateau_is_watched_once_an_epoch_on_what_was_held_out(toys, monkeypatch):
    seen, step = [], torch.optim.lr_scheduler.ReduceLROnPlateau.step
    monkeypatch.setattr(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        "step",
        lambda self, value: seen.append(value) or step(self, value),
    )
    found = train(
        toys, schedule="plateau", lr=1e-6, make_model=no_norm
    )  # too slow to get any better
    assert seen == found.history.column("val_loss")
    assert found.history.column("lr") == pytest.approx([1e-6, 1e-6, 2e-7])
    assert found.optimizer.param_groups[0]["lr"] == pytest.approx(4e-8)


def test_a_nan_between_two_looks_is_not_lost(toys, path, monkeypatch):
    """On a GPU only every tenth loss is fetched; fp16's scaler leaves the weights alone when one is no number."""
    monkeypatch.setattr(loop, "LOOK_EVERY", {})
    monkeypatch.setattr(
        Trainer,
        "backward",
        lambda self, x, labels, found=Trainer.backward: [
            value * (float("nan") if self.steps == BATCHES + 1 else 1)
            for value in found(self, x, labels)
        ],
    )
    with pytest.raises(TrainingError, match="loss is nan in epoch 2/3, batch 1 to 4"):
        train(toys, path)
    assert len(checkpoint.load(path)["history"]["rows"]) == 1


def test_in_fp16_gradients_that_are_never_numbers_stop_the_training(toys, path, monkeypatch):
    """The loss stays finite, for the scaler leaves out every step and halves its scale: here from 2⁻²², after three."""
    monkeypatch.setattr(
        Precision, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=2**-22)
    )

    def make_model():
        model = small_net()
        model[0].weight.register_hook(lambda gradient: gradient * float("nan"))
        return model

    with pytest.raises(
        TrainingError, match="gradients are not in epoch 1/3, batch 3, at learning rate"
    ):
        train(toys, path, make_model=make_model, precision=Precision(CPU, torch.float16))
    assert not path.exists()


def test_ctrl_c_behind_a_step_that_broke_the_weights_keeps_the_last_good_checkpoint(
    toys, path, monkeypatch
):
    step = Trainer.step

    def breaks(self, *batch):
        found = step(self, *batch)
        if self.steps == BATCHES + 2:
            nn.init.constant_(next(self.model.parameters()), float("nan"))
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(TrainingError, match="weights are not.*epoch 2/3.*checkpoint is untouched"):
        train(toys, path)
    assert checkpoint.load(path)["totals"] is None


class Breaks(nn.Module):
    """A network that gives NaN in its training batch ``at``, from 0 on."""

    def __init__(self, at):
        super().__init__()
        self.net, self.at, self.batches = small_net(dropout=0.3), at, 0

    def forward(self, x):
        self.batches += self.training
        return self.net(x) * (float("nan") if self.training and self.batches == self.at + 1 else 1)


def test_a_loss_that_is_no_number_stops_with_batch_and_rate_and_keeps_the_last_checkpoint(
    toys, path
):
    with pytest.raises(TrainingError) as caught:
        train(toys, path, make_model=lambda: Breaks(at=BATCHES + 2))
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.1, STEPS), 0.1, STEPS
    )
    for part in (
        "loss is nan",
        "epoch 2/3",
        "batch 3",
        f"{rates[BATCHES + 2]:.3g}",
        "lower learning rate",
    ):
        assert part in str(caught.value)
    assert len(checkpoint.load(path)["history"]["rows"]) == 1
    mended = train(toys, path, make_model=lambda: Breaks(at=-1))
    assert_same_training(mended, train(toys, make_model=lambda: Breaks(at=-1)))


def test_an_evaluation_that_gives_no_number_stops_the_training_too(toys, path):
    class BreaksOutside(Breaks):
        def forward(self, x):
            return self.net(x) * (1 if self.training else float("nan"))

    with pytest.raises(TrainingError, match="loss is nan in the evaluation after epoch 1"):
        train(toys, path, make_model=lambda: BreaksOutside(at=-1))
    assert not path.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried …"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried …"
        ),
    ],
)
def test_running_out_of_memory_names_a_batch_size_to_try(toys, monkeypatch, error):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=error))
    with pytest.raises(
        TrainingError, match="out of memory in epoch 1/3 with 20 pictures.*batch_size=10"
    ):
        train(toys)


# --- interrupted and resumed ----------------------------------------------------------------------


@pytest.mark.parametrize("make_loader", [batch_loader, albumentations_loader])
@pytest.mark.parametrize("at", [0, BATCHES + 3, 2 * BATCHES - 1])
def test_a_training_stopped_by_ctrl_c_and_resumed_is_the_one_that_was_not_to_the_last_bit(
    toys, path, make_loader, at
):
    with pytest.raises(KeyboardInterrupt, match="stopped after batch .*run again"):
        train(toys, path, make_loader=make_loader, ctrl_c_at=at)
    resumed = train(
        toys, path, make_loader=make_loader, weights_from=77
    )  # as a fresh process has others
    assert "going on" in resumed.lines[0] and "training.pt" in resumed.lines[0]
    assert_same_training(resumed, train(toys, make_loader=make_loader))


@pytest.mark.parametrize("schedule", ["cosine", "steps", "plateau", "constant"])
def test_every_schedule_goes_on_where_it_was(toys, path, schedule):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, schedule=schedule, ctrl_c_at=2 * BATCHES + 1)
    resumed = train(toys, path, schedule=schedule, weights_from=77)
    assert_same_training(resumed, train(toys, schedule=schedule))


def test_a_training_may_be_stopped_again_and_again(toys, path, whole):
    for at in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(toys, path, ctrl_c_at=at)
    assert_same_training(train(toys, path), whole)


def test_ctrl_c_in_the_last_batch_finishes_the_training_and_stops_what_comes_after(
    toys, path, whole
):
    with pytest.raises(KeyboardInterrupt, match="after the last epoch; saved in .*training.pt"):
        train(toys, path, ctrl_c_at=STEPS - 1)
    again = train(toys, path)
    assert_same_training(again, whole)
    assert len(again.lines) == 1, "reused"


def test_a_checkpoint_of_another_form_is_not_taken(toys, path, monkeypatch):
    train(toys, path)
    monkeypatch.setattr(checkpoint, "FORM", 2)
    with pytest.raises(CheckpointError, match="form of checkpoint was 1, is 2.*--no-resume"):
        train(toys, path)


def test_without_a_checkpoint_ctrl_c_stops_at_once(toys, monkeypatch):
    steps, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    with pytest.raises(KeyboardInterrupt):
        train(toys, ctrl_c_at=3)
    assert len(steps) == 3


def test_a_second_ctrl_c_stops_at_once(toys, path):
    loader = batch_loader(toys.train, 20, 0)
    press_ctrl_c(loader, 3, times=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(toys, path, make_loader=lambda *_: loader)
    assert str(caught.value) == "" and not path.exists()


@pytest.mark.parametrize("ctrl_c_at", [None, 3])
def test_ctrl_c_means_what_it_meant_once_the_training_is_over(toys, path, ctrl_c_at):
    before = signal.getsignal(signal.SIGINT)
    try:
        train(toys, path, ctrl_c_at=ctrl_c_at)
    except KeyboardInterrupt:
        assert ctrl_c_at == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_training_is_reused_with_a_word_and_without_a_step(
    toys, path, whole, monkeypatch
):
    train(toys, path)
    forbid_steps(monkeypatch)
    again = train(toys, path, weights_from=77)
    assert_same_training(again, whole)
    assert len(again.lines) == 1
    for part in ("already finished", "reusing training.pt", "anew=True"):
        assert part in again.lines[0]


def test_anew_trains_again_and_replaces_the_checkpoint(toys, path, monkeypatch):
    train(toys, path)
    first, steps, step = path.read_bytes(), [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    again = train(toys, path, anew=True, lr=0.05)
    assert len(steps) == STEPS and len(again.lines) == EPOCHS and path.read_bytes() != first
    assert_same_training(train(toys, path, lr=0.05), again)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "change, named",
    [
        ({"lr": 0.05}, "initial_lr"),
        ({"batch_size": 10}, "batch size was 20, is 10"),
        ({"sizes": (16, 16, 12)}, r"picture sizes was \[16, 16, 16\], is \[16, 16, 12\]"),
        ({"sizes": (16, 16)}, "picture sizes"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"label_smoothing": 0.1}, r"label smoothing was 0\.0, is 0\.1"),
        ({"weight_decay": 0.0}, "weight_decay"),
        ({"make_model": lambda: small_net(width=12)}, "weights"),
        ({"split": "other"}, "toy shapes val"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_training_is_not_taken_and_the_difference_is_named(
    toys, path, schedule, change, named
):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, schedule=schedule, ctrl_c_at=1)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=named) as caught:
        train(toys, path, schedule=schedule, **change)
    for part in (str(path), "another training", "anew=True"):
        assert part in str(caught.value)
    assert path.read_bytes() == before


def test_settings_are_compared_too(toys, path):
    train(toys, path, settings={"stem": "strided", "sizes": [16]})
    assert (
        "already finished"
        in train(toys, path, settings={"stem": "strided", "sizes": [16]}).lines[0]
    )
    with pytest.raises(CheckpointError, match="settings, stem was strided, is small"):
        train(toys, path, settings={"stem": "small", "sizes": [16]})


def test_a_checkpoint_of_another_schedule_is_not_taken(toys, path):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, ctrl_c_at=1)
    with pytest.raises(CheckpointError, match="schedule was OneCycleLR, is ReduceLROnPlateau"):
        train(toys, path, schedule="plateau")


# --- checkpoint files -----------------------------------------------------------------------------
