"""Classifies all pictures below a folder over one stream, with asyncio; prints each prediction as it arrives.

    pip install voc-cls
    python examples/python/stream.py 127.0.0.1:8500 holiday/
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from voc_cls.client import AsyncClient


async def main(address: str, folder: str) -> None:
    files = sorted(Path(folder).rglob("*.jpg"))
    async with AsyncClient(address, wait=30) as client:
        answers = client.classify_stream(files, exported_thresholds=True)  # the labels above the model's own thresholds
        async with contextlib.aclosing(answers):  # ends the call, however the loop is left
            async for position, prediction in answers:
                seen = ", ".join(scored.label for scored in prediction.labels)
                print(f"{files[position]}: {prediction.error or seen or 'nothing'}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
