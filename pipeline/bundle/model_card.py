"""``README.md`` of a bundle: the model card, in the words of the manifest."""

from __future__ import annotations

from edgec.pipeline.bundle.c_sources import c_prefix
from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.templates import environment


def model_card(manifest: Manifest) -> str:
    """Markdown for people who get the folder and have no Python."""
    values = {"m": manifest, "rate": rate, "p": c_prefix(manifest.model.name), "latency": latency_words(manifest)}
    return environment().get_template("README.md.j2").render(values)


def rate(value: float | None, interval: tuple[float, float] | None) -> str:
    """``86.00 % (80.5 to 90.1)``, or the plain words."""
    if value is None or interval is None:
        return "not measured"
    return f"{value:.2f} % ({interval[0]:.1f} to {interval[1]:.1f})"


def latency_words(manifest: Manifest) -> str:
    """One sentence."""
    found = manifest.latency
    if found.p50_ms is None:
        return f"{found.status}: {found.note}" if found.note else found.status
    interval = found.p50_interval_ms
    spread = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    machine = ", ".join(found.fingerprint.values())
    median = f"{found.status}: median {found.p50_ms:.3f} ms{spread}"
    return f"{median}, {found.num_samples} samples, {found.threads} threads, {machine}"
