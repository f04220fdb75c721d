"""A saved model as one page for a browser, to play with: a photograph and sentences in, shares and a map out.

``python -m visionclip.report.in_browser --model FOLDER --out FOLDER`` (``make page``) writes ``index.html``. It opens
from disk, holds all it needs and asks nobody for anything: both towers as ONNX graphs, their runtime as WebAssembly,
the vocabulary, and preprocessing and tokenizer once more in JavaScript (``templates/in_browser``). Weights are kept in
16 bits and computed with in 32; ``tests/report/test_in_browser.py`` says how close that is to torch's.

The runtime is an archive of npm that is not part of the repository: ``RUNTIME``, checked by its digest.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from visionclip import runs, streams
from visionclip.conditions import DISEASES, FINDINGS, VOCABULARY
from visionclip.data.field_of_view import SURROUNDS
from visionclip.models import onnx as graphs
from visionclip.models import visionclip
from visionclip.phantom import render
from visionclip.report import html
from visionclip.text.familiarity import VisionCLIPTokenizer
from visionclip.text.grammar import LANGUAGES, phrases, prompts

VERSION = "1.30.0"
RUNTIME = f"data/npm/onnxruntime-web-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm has it
SCRIPTS = ("field_of_view.js", "images.js", "tokenizer.js", "page.js")
EXAMPLES: dict[str, dict[str, int]] = {
    "healthy": {},
    "severe retinopathy": {"dr_grade": 3, "dme": 1},
    "glaucoma": {"gc": 1},
    "pathologic myopia": {"pm": 1},
}
LARGE = 1024  # weights of a tensor that is worth halving
FINDABLE = tuple(key for key, finding in FINDINGS.items() if finding.lesion or key in ("disc", "fovea", "vessels"))


def build(model: str | Path, out: str | Path, runtime: str | Path = RUNTIME) -> Path:
    """Write the page of the model in a folder and return its path.

    Raises:
        FileNotFoundError: there is no model, or no archive of the runtime; the message says how to get it.
        ValueError: the archive is another one, or the tokenizer isn't that of the captions.
    """
    script, binary = read_runtime(runs.resolve(runtime))
    network, tokenizer, processor = visionclip.load(runs.resolve(model))
    if not isinstance(tokenizer, VisionCLIPTokenizer):
        raise ValueError(f"{model}: has another's tokenizer; the page knows that of 02-captions.ipynb alone")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        graphs.export(network, tokenizer, processor.size, folder)
        exported = runs.read_json(folder / "visionclip.json")
        towers = {name: halved(onnx.load(folder / f"{name}.onnx")) for name in ("image", "text")}
    facts = {
        **exported,
        "vocabulary": tokenizer.get_vocab(),
        "seen": sorted(tokenizer.familiar),
        "padding": tokenizer.pad_token_id,
        "surrounds": SURROUNDS,
        "conditions": {language: ready_sentences(language) for language in LANGUAGES},
        "findings": {language: [phrases(key, language)[0] for key in FINDABLE] for language in LANGUAGES},
    }
    environment = Environment(
        loader=FileSystemLoader(html.TEMPLATES / "in_browser"), undefined=StrictUndefined, autoescape=True
    )
    path = runs.resolve(out) / "index.html"
    with runs.atomic(path) as temporary_path:
        text = environment.get_template("page.html.j2").render(
            style=Markup(_template("page.css")),
            script=in_script("\n".join(map(_template, SCRIPTS))),
            runtime_script=in_script(script),
            runtime=VERSION,
            facts=Markup(json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
            payloads={"runtime": packed(binary)} | {name: packed(graph) for name, graph in towers.items()},
            examples=[{"name": name, "png": example(eye, processor.size)} for name, eye in EXAMPLES.items()],
            maps=exported["cell_bias"] is not None,
            model=runs.relative(runs.resolve(model)) if runs.resolve(model).is_relative_to(runs.ROOT) else "your own",
            size=processor.size,
            scale=f"{exported['scale']:.1f}",
        )
        temporary_path.write_text(text, "utf-8")
    return path


def read_runtime(archive: Path) -> tuple[str, bytes]:
    """The runtime's script, which sets ``globalThis.ort`` instead of exporting, and its WebAssembly.

    Raises:
        FileNotFoundError: the archive isn't there; the message says how to get it.
        ValueError: it is another one than was chosen.
    """
    place = runs.relative(archive)
    fetch = f"npm pack onnxruntime-web@{VERSION} --pack-destination {runs.relative(archive.parent)}"
    if not archive.is_file():
        raise FileNotFoundError(f"{place}: not there; get it with `{fetch}`, or run `make page`")
    content = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise ValueError(
            f"{place}: not the archive that was chosen, by its SHA-512; remove it and get it with `{fetch}`"
        )
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        script, binary = (
            files.extractfile(f"package/dist/{name}")
            for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
        )
        assert script is not None  # the digest says so
        assert binary is not None
        return as_global(script.read().decode()), binary.read()


def as_global(module: str) -> str:
    """A module's script that sets ``globalThis.ort`` to what it exported, as a page on disk can import no file."""
    (exported,) = re.findall(r"export\s*\{([^}]*)\};?", module)
    names = (one.split(" as ") for one in exported.split(","))
    listed = ",".join(f"{json.dumps(name[-1].strip())}:{name[0].strip()}" for name in names)
    module = re.sub(r"export\s*\{[^}]*\};?", lambda _: f"globalThis.ort={{{listed}}};", module)
    return re.sub(r"^//# sourceMappingURL=.*$", "", module, flags=re.M)


def halved(graph: onnx.ModelProto) -> bytes:
    """The graph with its large weights kept in 16 bits; it computes in 32, as before."""
    casts: list[onnx.NodeProto] = []
    kept: list[TensorProto] = []
    for weights in graph.graph.initializer:
        values = numpy_helper.to_array(weights)
        if weights.data_type == TensorProto.FLOAT and values.size >= LARGE:
            name = f"{weights.name}_half"
            casts.append(helper.make_node("Cast", [name], [weights.name], to=TensorProto.FLOAT))
            weights = numpy_helper.from_array(values.astype("float16"), name)
        kept.append(weights)
    half = onnx.ModelProto()
    half.CopyFrom(graph)
    for field, content in ((half.graph.initializer, kept), (half.graph.node, [*casts, *graph.graph.node])):
        del field[:]
        field.extend(content)
    onnx.checker.check_model(half)
    return half.SerializeToString()


def ready_sentences(language: str) -> list[dict]:
    """Each disease with its name and its classes, that of absence first: name and commonest sentence of each."""
    ready = []
    for key in DISEASES:
        condition = VOCABULARY[key]
        name = (condition.chinese if language == "zh" else condition.english)[0]
        grades = [grade[language == "en"] for grade in condition.grades] or [name]
        sentences = [prompts({key: value}, language, 1)[0] for value in range(condition.highest + 1)]
        named = zip(["", *grades], sentences, strict=True)
        classes = [{"name": grade, "sentence": sentence} for grade, sentence in named]
        ready.append({"key": key, "name": name, "classes": classes})
    return ready


def example(eye: Mapping[str, int], size: int) -> str:
    """A phantom with these conditions as base64 of a PNG, always the same one."""
    file = io.BytesIO()
    drawn = render(eye, streams.rng(0, f"page: {sorted(eye.items())}"), size=size).image
    Image.fromarray(drawn).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def packed(content: bytes) -> str:
    """Base64 of gzip, the same for the same content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def in_script(script: str) -> Markup:
    """A script that no part of itself ends, as HTML reads it."""
    return Markup(re.sub(r"<(?=/script|!--)", r"<\\", script, flags=re.I))


def _template(name: str) -> str:
    return (html.TEMPLATES / "in_browser" / name).read_text("utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the page that the command line names; what is wrong is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m visionclip.report.in_browser", description="Put a saved model into one page for a browser."
    )
    parser.add_argument("--model", default="weights/visionclip", help="folder of the model, as stage 03 saves it")
    parser.add_argument("--out", default="reports/page", help="folder of the page")
    given = parser.parse_args(arguments)
    try:
        page = build(given.model, given.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{runs.relative(page)}: {page.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
