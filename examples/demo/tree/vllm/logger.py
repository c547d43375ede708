"""Log lines shaped like vLLM's, for example `(APIServer pid=7) INFO 11-22 08:44:23 [core.py:133] …`, on stdout."""

import logging
import os
import sys

from vllm import __version__

SIMULATED = f"SIMULATED: no model runs here. Every number comes from constants in the source (vllm {__version__})."


class _Formatter(logging.Formatter):
    def format(self, record):
        title = getattr(record, "process_title", "MainProcess")
        when = self.formatTime(record, "%m-%d %H:%M:%S")
        head = f"({title} pid={os.getpid()}) {record.levelname} {when} [{record.filename}:{record.lineno}] "
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return "\n".join(head + line for line in text.split("\n"))


class _Titled(logging.LoggerAdapter):
    def process(self, msg, kwargs):
        kwargs.setdefault("extra", self.extra)
        return msg, kwargs


def init_logger(name, title="MainProcess"):
    """A logger whose lines carry `title` as the process that vLLM would have used."""
    root = logging.getLogger("vllm")
    if not root.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Formatter())
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return _Titled(logging.getLogger("vllm." + name), {"process_title": title})
