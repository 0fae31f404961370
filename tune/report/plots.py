"""Figures of a sweep, made with Optuna and Plotly."""

from __future__ import annotations

import math
from collections.abc import Iterator

import optuna
from optuna import visualization
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial
from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from tune.search.searcher import encode, make_study
from tune.space.schema import Space, short_names
from tune.space.settings import Objective
from tune.state.history import History

LEAST_FOR_IMPORTANCE = 4
"""Least number of trials for an estimate of importance."""
COLORS = {"finished": "#4c72b0", "pruned": "#8c8c8c", "stopped": "#dd8452", "running": "#55a868", "failed": "#c44e52"}
SIDE_BY_SIDE = 4
"""Keys in a row of figures."""


def figures(space: Space, history: History) -> Iterator[tuple[str, Figure]]:
    """Yield titles and figures, as far as there is something to show.

    Args:
        space: space of the sweep.
        history: history of the sweep.

    Returns:
        Iterator over (title, figure) pairs.
    """
    for title, figure in _figures(space, history):
        # The page has titles, and sets the width.
        yield title, figure.update_layout(title=None, width=None, margin={"t": 30, "b": 40}, template="plotly_white")


def _figures(space: Space, history: History) -> Iterator[tuple[str, Figure]]:
    objective = space.objective[0]
    yield "Learning curves; a cross ends those that were pruned", learning_curves(objective, history)
    if len(space.objective) in (2, 3) and (everything := _best_results(space, history)).trials:
        names = [objective.metric for objective in space.objective]
        yield "Best compromises", visualization.plot_pareto_front(everything, target_names=names)
    study = _best_results(space.model_copy(update={"objective": (objective,)}), history)
    if not space.parameters or not study.trials:
        return
    if len(study.trials) >= LEAST_FOR_IMPORTANCE and len({trial.value for trial in study.trials}) > 1:
        evaluator = FanovaImportanceEvaluator(seed=0)
        importance = visualization.plot_param_importances(study, evaluator, target_name=objective.metric)
        importance.update_layout(xaxis_title=f"share of the variance of {objective.metric}", yaxis_title=None)
        yield "Importance of the searched keys (fANOVA)", importance
    yield f"{objective.metric} over each key", over_keys(space, history)
    yield "All trials, by all keys", visualization.plot_parallel_coordinate(study, target_name=objective.metric)


def over_keys(space: Space, history: History) -> Figure:
    """Plot the best value of every trial over each searched key, coloured by the trial's state.

    Args:
        space: space of the sweep.
        history: history of the sweep.

    Returns:
        Plotly figure, a panel for each key.
    """
    objective, keys = space.objective[0], list(space.parameters)
    rows = math.ceil(len(keys) / SIDE_BY_SIDE)
    figure = make_subplots(rows=rows, cols=min(len(keys), SIDE_BY_SIDE), shared_yaxes=True, vertical_spacing=0.3 / rows)
    scored = [(trial, best) for trial in history.best_trials(objective) if (best := trial.best(objective))]
    for index, key in enumerate(keys):
        place = {"row": index // SIDE_BY_SIDE + 1, "col": index % SIDE_BY_SIDE + 1}
        for state in dict.fromkeys(trial.state for trial, _ in scored):
            shown = [(t, b.metrics[objective.metric]) for t, b in scored if t.state == state and key in t.params]
            figure.add_trace(
                Scatter(
                    x=[_on_axis(trial.params[key]) for trial, _ in shown], y=[value for _, value in shown],
                    text=[trial.name for trial, _ in shown], mode="markers", name=state, legendgroup=state,
                    showlegend=index == 0, marker={"color": COLORS[state], "size": 9},
                ),
                **place,
            )  # fmt: skip
        figure.update_xaxes(title=key, type="log" if space.parameters[key].is_log else None, **place)
    figure.update_yaxes(title=objective.metric, col=1)
    return figure.update_layout(height=100 + 320 * rows)


def _on_axis(value: object) -> object:
    """Return a value for an axis: numbers as they are, everything else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def learning_curves(objective: Objective, history: History) -> Figure:
    """Plot the objective by epoch, a line for each trial.

    Args:
        objective: objective to plot.
        history: history of the sweep.

    Returns:
        Plotly figure.
    """
    figure = Figure()
    for trial in history.trials:
        curve = trial.curve(objective)
        symbols = ["circle"] * (len(curve) - 1) + ["x" if trial.state == "pruned" else "circle"]
        figure.add_trace(
            Scatter(
                x=list(curve), y=list(curve.values()), name=f"trial {trial.number}, {trial.state}",
                mode="lines+markers", line={"color": COLORS[trial.state]},
                marker={"symbol": symbols[: len(curve)], "size": 8},
            )
        )  # fmt: skip
    return figure.update_layout(xaxis_title="epoch", yaxis_title=objective.metric)


def _best_results(space: Space, history: History) -> optuna.Study:
    """Make a study of all trials with results, each with its best one; keys have their short names."""
    study, names = make_study(space, History()), short_names(space.parameters)
    for trial in history.trials:
        if trial.state != "failed" and (values := trial.values(space.objective)):
            parts = encode(space, trial.params)
            named = {part: {names[key]: value for key, value in of.items()} for part, of in parts.items()}
            params, distributions = named["params"], named["distributions"]
            study.add_trial(create_trial(values=values, params=params, distributions=distributions))
    return study
