"""Commands that read runs: analyze, recommend, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcc_search.cli.options import Runs, table_width


def add_result_commands(app: typer.Typer) -> None:
    for command in (analyze, recommend, export):
        app.command()(command)


def analyze(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the figures. Default: RUN/analysis; of several runs analysis-NAME+NAME beside the first; "
            "of one in a bucket ./analysis-NAME."
        ),
    ] = None,
    compare: Annotated[str | None, typer.Option(help="paper: its published numbers beside the run's.")] = None,
) -> None:
    """Draw frontier, accuracy tradeoffs and effects, and print the best feasible trials against the baseline."""
    from rich.console import Console

    from gcc_search.analysis.printing import print_findings
    from gcc_search.analysis.report import analyze as analyze_run
    from gcc_search.analysis.report import folder_for
    from gcc_search.analysis.stages import show_stages
    from gcc_search.fetching import figures_folder, open_runs
    from gcc_search.targets import check_here, check_place

    if out is not None:
        check_here("--out", out)
    console = Console(width=table_width())
    with open_runs(runs) as folders:
        place = out or figures_folder(runs) or folder_for(folders)
        # Of what is no run, that is told first.
        if all((folder / "run.json").exists() for folder in folders):
            check_place("--out", place / "report.html")
        with show_stages(console) as tell:
            analysis = analyze_run(folders, place, tell, compare=compare)
        print_findings(analysis, analysis.files, console)


def recommend(
    runs: Runs,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=0, help="Points of validation accuracy that may be lost. Default: no limit.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only trials of this network.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write its network to this .safetensors file, for evaluate and explain; a card lies beside."),
    ] = None,
    confirm: Annotated[
        Path | None,
        typer.Option(help="Write a space file that trains its settings again, under seeds that did not choose them."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, max=100, help="How many, for --confirm. Default: 5.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that --export and --confirm find in their way.")
    ] = False,
) -> None:
    """Name the trial to use, and say why: the highest C* among those that keep the constraints and the accuracy.

    The validation split decides, the test split is reported. Exit code 1 where no trial qualifies.
    """
    from rich.console import Console

    from gcc_search.analysis.recommendation import Wish
    from gcc_search.analysis.recommendation import recommend as recommend_trial
    from gcc_search.analysis.recommendation_text import print_recommendation
    from gcc_search.analysis.several import read_runs
    from gcc_search.errors import ResultsError
    from gcc_search.fetching import open_runs

    if export is not None:
        from gcc_search.exporting import check_target

        check_target(export, force=force)
    if confirm is not None:
        from gcc_search.confirming import check_space_target, write_confirming_space

        check_space_target(confirm, force=force)
    elif seeds is not None:
        raise ResultsError("--seeds: must go with --confirm, which writes the space file; add it, or leave --seeds out")
    wish = Wish(max_accuracy_drop=max_accuracy_drop, network=network)
    with open_runs(runs) as folders:
        run = read_runs(folders)
        found = recommend_trial(run, wish)
        print_recommendation(found, wish, Console(width=table_width()))
        if export is not None:
            from gcc_search.exporting import export_recommended

            model, card = export_recommended(found, wish, export)
            print(f"\nwrote {model} and {card}")
        if confirm is not None:
            command = write_confirming_space(found, confirm, num_seeds=seeds or 5, chosen_among=run.trials)
            print(f"\nwrote {confirm}; train it: {command}")


def export(
    runs: Runs,
    out: Annotated[
        Path, typer.Option(help="Folder of the networks: a .safetensors file each, a card for each on the frontier.")
    ],
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=0, help="Points of validation accuracy that may be lost. Default: no limit.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only trials of this network.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are in the way.")] = False,
) -> None:
    """Hand back the networks on the frontier: each with its card, their baselines, and an index of all.

    The validation split decides, as for recommend. Exit code 1 where no trial qualifies.
    """
    from rich.console import Console

    from gcc_search.analysis.recommendation import Wish
    from gcc_search.analysis.several import read_runs
    from gcc_search.fetching import open_runs
    from gcc_search.frontier_export import check_folder, plan_export, say_export, write_export

    check_folder(out)
    wish = Wish(max_accuracy_drop=max_accuracy_drop, network=network)
    with open_runs(runs) as folders:
        plan = plan_export(read_runs(folders), wish, out, force=force)
        write_export(plan, wish, Console(stderr=True))
        say_export(plan, Console(width=table_width()))
