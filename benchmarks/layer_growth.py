"""How time and memory of the layer grow with tokens, experts and batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layer_point import measure
from layer_work import Setting

WHO = ("oracle", "fp32", "bf16")
WORKS = ("step", "forward")
MODALITIES = ("text", "image", "audio", "video", "depth", "touch")
TOTAL = 240
"""Tokens of a sample where their number is not what grows; every number of modalities divides it.

4 samples and 2 modalities likewise.
"""


def settings() -> dict[str, dict[int, Setting]]:
    """{what grows: {size: setting}}."""

    def sized(tokens: int = TOTAL, modalities: int = 2, batch: int = 4) -> Setting:
        lengths = dict.fromkeys(MODALITIES[:modalities], tokens // modalities)
        return Setting("growth", batch, lengths, 23, True)

    return {
        "tokens": {n: sized(tokens=n) for n in (64, 128, 256, 512, 1024)},
        "experts": {n + 2: sized(modalities=n) for n in (2, 3, 4, 5, 6)},
        "batch": {n: sized(batch=n) for n in (1, 2, 4, 8, 16, 32, 64, 128)},
    }


def growth_rows(
    rounds: int, seed: int, *, time_limit: float, memory_limit: float
) -> list[dict[str, Any]]:
    """One row per size, work and who; seconds and megabytes are None beyond a limit.

    Who met a limit is not asked for larger sizes.
    """
    rows: list[dict[str, Any]] = []
    for axis, sizes in settings().items():
        for work in WORKS:
            for who in WHO:
                fits = True
                for size, setting in sizes.items():
                    found = None
                    if fits:
                        found = measure(
                            setting,
                            work,
                            who,
                            rounds=rounds,
                            seed=seed,
                            memory_limit=memory_limit,
                            time_limit=time_limit,
                        )
                    fits = found is not None
                    found = found or {"seconds": None, "peak_megabytes": None}
                    rows.append({"axis": axis, "size": size, "work": work, "who": who, **found})
                    print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws seconds and megabytes against each axis; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes_names = list(settings())
    measures = {"seconds": "CPU seconds", "peak_megabytes": "peak memory, MB"}
    figure, grid = pyplot.subplots(2, len(axes_names), figsize=(12, 7), sharey="row")
    colours = dict(zip(WHO, ("tab:gray", "tab:blue", "tab:orange"), strict=True))
    names = {"oracle": "oracle, fp32", "fp32": "fli2moe, fp32", "bf16": "fli2moe, bf16"}
    for line, (key, label) in zip(grid, measures.items(), strict=True):
        for plot, axis in zip(line, axes_names, strict=True):
            for work, style in zip(WORKS, ("o-", "s--"), strict=True):
                for who in WHO:
                    points = [
                        (r["size"], r[key])
                        for r in rows
                        if (r["axis"], r["work"], r["who"]) == (axis, work, who) and r[key]
                    ]
                    if points:
                        plot.plot(
                            *zip(*points, strict=True),
                            style,
                            color=colours[who],
                            label=f"{'training step' if work == 'step' else 'inference'}, "
                            f"{names[who]}",
                            markersize=4,
                        )
            plot.set(xscale="log", yscale="log", xlabel=axis)
            sizes = sorted({r["size"] for r in rows if r["axis"] == axis})
            plot.set_xticks(sizes, [str(size) for size in sizes])
            plot.minorticks_off()
            plot.grid(alpha=0.3)
        line[0].set_ylabel(label)
    grid[0][0].legend(fontsize=7)
    figure.suptitle(f"{TOTAL} tokens, 2 modalities (4 experts), batch 4, unless on the axis")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
