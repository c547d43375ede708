"""The machine: what is free on the disks that matter, what the GPUs do, and the hour before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from isobench_tui.report.text import bytes_text, safe, span
from isobench_tui.store.clock import seconds
from isobench_tui.store.live import LiveDisk, LiveForecast, LiveGpu, LiveHost
from isobench_tui.tui.snapshot import Snapshot
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.words import BAD, DIM, HEAD, WARN, bar, spark

TIGHT, FULL = 0.8, 0.95
"""Shares of a disk in use from which it is coloured."""
HOT = 85
"""Degrees Celsius from which a GPU's temperature is coloured; datacenter cards begin to slow down at 85 to 90."""
OLD_S = 60.0
"""A reading older than this says its age."""
GRAPH = 24

Past = Mapping[tuple[str, str], tuple[float | None, ...]]


def machine_lines(snapshot: Snapshot, room: Room) -> tuple[Text, ...]:
    """Disks first, then each GPU, then the host; as many lines as there is room for are seen at once."""
    machine = snapshot.machine
    if machine is None:
        return (Text("no reading of the machine yet", DIM),)
    age = room.now - seconds(machine.at)
    lines = [_disk(disk, machine.past, room.width) for disk in machine.now.disks]
    for running in snapshot.running:
        if running.forecast is not None:
            lines += _needs(running.forecast)
    for gpu in machine.now.gpus:
        lines += _gpu(gpu, machine.past, room)
    if machine.now.gpu_note:
        lines.append(Text(safe(machine.now.gpu_note), DIM, no_wrap=True))
    lines.append(_host(machine.now.host, machine.past, room.width))
    if age > OLD_S:
        lines[0].append(f" {span(age)} ago", WARN)
    return tuple(lines)


def _disk(disk: LiveDisk, past: Past, width: int) -> Text:
    used = 1 - disk.free / disk.total if disk.total else 0.0
    style = BAD if used > FULL else WARN if used > TIGHT else ""
    text = Text(f"{', '.join(disk.holds) or 'disk'} ", DIM, no_wrap=True)
    text.append(f"{bytes_text(disk.free)} free of {bytes_text(disk.total)} ", style)
    text.append(bar(used, 10), style)
    text.append(" ")
    _graph(text, past.get(("disk", disk.path), ()), width, 14, high=disk.total)
    text.append(safe(disk.path), DIM)
    return text


def _needs(forecast: LiveForecast) -> list[Text]:
    """What the attempt takes of each disk, what it fetches, then what we hold and could give up for it."""
    lines = []
    for volume in forecast.volumes:
        alone = len(forecast.volumes) == 1  # paths of needs are not those of volumes: several lie on one
        parts = [need for need in forecast.needs if alone or need.path == volume.path]
        most = max(parts, key=lambda need: need.bytes, default=None)
        text = Text(f"needs {bytes_text(volume.needed)}", BAD if volume.needed > volume.free else "", no_wrap=True)
        text.append(f" in {safe(volume.path)}", DIM)
        if most is not None and most.bytes > volume.needed / 2:
            text.append(f", most of it {safe(most.what)} {bytes_text(most.bytes)}", DIM)
        lines.append(text)
    if forecast.fetch or forecast.unknown:
        unknown = f"; unknown: {', '.join(map(safe, forecast.unknown))}" if forecast.unknown else ""
        lines.append(Text(f"to fetch {bytes_text(forecast.fetch)}{unknown}", DIM, no_wrap=True))
    if forecast.held:
        held = sum(image.bytes for image in forecast.held)
        count = f"{len(forecast.held)} image{'s' if len(forecast.held) > 1 else ''}"
        lines.append(Text(f"we hold {count}, {bytes_text(held)}; could free {bytes_text(forecast.freeable)}", DIM))
    return lines


def _gpu(gpu: LiveGpu, past: Past, room: Room) -> list[Text]:
    text = Text(f"gpu{gpu.index} ", HEAD, no_wrap=True)
    text.append(bar(gpu.memory_used / gpu.memory_total if gpu.memory_total else 0.0, 10))
    text.append(f" {bytes_text(gpu.memory_used)} of {bytes_text(gpu.memory_total)} ")
    if gpu.utilization is not None:
        text.append(f"{gpu.utilization} % ")
    if gpu.temperature is not None:
        text.append(f"{gpu.temperature} °C ", WARN if gpu.temperature >= HOT else "")
    if gpu.sm_clock is not None:
        top = f" of {gpu.sm_clock_max}" if gpu.sm_clock_max else ""
        text.append(f"{gpu.sm_clock}{top} MHz ", DIM)
    if gpu.power is not None:
        text.append(f"{gpu.power:.0f} W ", DIM)
    _graph(text, past.get(("gpu_utilization", gpu.uuid), ()), room.width, 0, high=100.0)
    lines = [text]
    if gpu.throttle:
        lines.append(Text(f"     throttled: {', '.join(gpu.throttle)}", f"{WARN} bold", no_wrap=True))
    for process in gpu.processes:
        memory = "memory unknown" if process.memory is None else bytes_text(process.memory)
        whose = f"ours, {process.attempt}" if process.ours else f"{safe(process.user)}, not ours"
        words = f"     pid {process.pid} {memory} ({whose}) {safe(process.name)}"
        lines.append(Text(words, DIM if process.ours or process.graphics else f"{WARN} bold", no_wrap=True))
    return lines


def _host(host: LiveHost, past: Past, width: int) -> Text:
    text = Text("host ", DIM, no_wrap=True)
    busy = host.load[0] > 1.5 * host.cpus
    text.append(f"load {host.load[0]:.2f} on {host.cpus} CPUs ", WARN if busy else "")
    if host.cpu_percent is not None:
        text.append(f"{host.cpu_percent:.0f} % busy ", DIM)
    text.append(f"{bytes_text(host.memory_available)} of {bytes_text(host.memory_total)} memory free ")
    _graph(text, past.get(("load", "host"), ()), width, 0)
    return text


def _graph(text: Text, values: Sequence[float | None], width: int, spare: int, high: float | None = None) -> None:
    """The hour before, where there is room beside `spare` more cells; a gap in it is a gap in the graph."""
    cells = min(GRAPH, width - text.cell_len - spare - 1)
    if cells >= 8 and any(value is not None for value in values):
        text.append(spark(values, cells, 0.0, high), DIM)
        text.append(" ")
