"""The model in a page: what JavaScript does once more is what Python does, and the page answers as the model."""

import base64
import io
import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import chromium
from visionclip import phantom, runs, streams
from visionclip.conditions import DISEASES, FINDINGS, VOCABULARY
from visionclip.data import images
from visionclip.models import visionclip
from visionclip.report import in_browser
from visionclip.text.familiarity import unfamiliar
from visionclip.text.grammar import LANGUAGES, phrases, prompts

MODEL = runs.ROOT / "weights" / "visionclip"
RUNTIME = runs.ROOT / in_browser.RUNTIME
ODD = [
    *(
        "",
        "  ",
        "Glaucoma?!",
        "“Quoted” ‘words’",
        "OEDÈME naïve Straße",
        "血管瘤与drusen混在一起",
        "a\tb\nc\u200bd\u3000e",
    ),
    *("[MASK] of [CLS]", "x" * 101, "antidisestablishmentarianism", "😀 ①②³", "Ångström ИКС Σς", "龘 𠀀 한국어 カナ"),
    *("1,234.5% (OD)", "no " * 80),
]
COSINE = 0.995  # of the page's embedding of a photograph with torch's, at least; measured: 0.9999
LOGIT = 0.1  # between page and torch, at most; measured on phantoms: 0.03

needs_browser = pytest.mark.skipif(chromium.BROWSER is None, reason="no chromium or google-chrome on the path")
needs_runtime = pytest.mark.skipif(not RUNTIME.is_file(), reason=f"no {in_browser.RUNTIME} here: make page gets it")


@pytest.fixture(scope="module")
def model():
    network, tokenizer, processor = visionclip.load(MODEL)
    return network.train(False), tokenizer, processor.size


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def scripts(browser):
    """The page's functions alone, without a model."""
    text = "\n".join(map(in_browser._template, in_browser.SCRIPTS[:-1]))
    browser.run(f"(0, eval)({json.dumps(text)})")
    return browser


def photographs():
    """Phantoms of several sizes, on black, on white, beside text, and cut out of a page."""
    drawn = [
        phantom.render(eye, streams.rng(0, "page", index), size).image
        for index, (eye, size) in enumerate([({"dr_grade": 3, "dme": 1}, 384), ({"pm": 1}, 640), ({"gc": 1}, 256)])
    ]
    white = drawn[1].copy()
    white[white.max(2) < 5] = 255
    page = np.pad(white, ((40, 30), (60, 20), (0, 0)), constant_values=250)
    marked = drawn[1].copy()
    marked[8:20, 8:60] = 255
    return [*drawn, white, page, marked, np.full((40, 60, 3), 90, np.uint8)]


def encoded(photograph):
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# --- Without a browser --------------------------------------------------------------------------------------------


def test_weights_in_16_bits_compute_in_32():
    rng = streams.rng(0, "weights")
    weights = rng.normal(size=(64, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    half = in_browser.halved(whole)
    assert len(half) < 0.6 * len(whole.SerializeToString())
    x = rng.normal(size=(1, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    assert session.run(["y"], {"x": x})[0] == pytest.approx(x @ weights.astype(np.float16).astype(np.float32), abs=1e-4)
    assert whole.graph.initializer[0].data_type == TensorProto.FLOAT, "the graph given stays as it is"
    onnx.checker.check_model(onnx.load_from_string(half))


def test_a_module_becomes_a_script_of_a_page():
    text = "const a=1;export{a as InferenceSession,b as default};\n//# sourceMappingURL=x.map\n"
    assert in_browser.as_global(text).strip() == 'const a=1;globalThis.ort={"InferenceSession":a,"default":b};'
    assert in_browser.in_script("'</script><!--'") == "'<\\/script><\\!--'"


@pytest.mark.parametrize("language", LANGUAGES)
def test_ready_sentences_are_of_every_disease_absence_first(language):
    ready = in_browser.ready_sentences(language)
    assert [one["key"] for one in ready] == list(DISEASES)
    for one in ready:
        assert len(one["classes"]) == VOCABULARY[one["key"]].highest + 1
        assert [text["sentence"] for text in one["classes"]] == [
            prompts({one["key"]: value}, language, 1)[0] for value in range(len(one["classes"]))
        ]
    assert set(in_browser.FINDABLE) <= set(FINDINGS)


def test_a_missing_and_a_foreign_archive_are_one_line(tmp_path, capsys, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"npm pack onnxruntime-web@\S+ --pack-destination"):
        in_browser.read_runtime(tmp_path / "x.tgz")
    (tmp_path / "x.tgz").write_bytes(b"another")
    with pytest.raises(ValueError, match="SHA-512"):
        in_browser.read_runtime(tmp_path / "x.tgz")
    monkeypatch.setattr(in_browser, "build", lambda *_: in_browser.read_runtime(tmp_path / "y.tgz"))
    with pytest.raises(SystemExit):
        in_browser.main([])
    assert capsys.readouterr().err.count("\n") == 1


def test_make_gets_the_archive_that_is_checked():
    assert f"RUNTIME := {in_browser.RUNTIME}\n" in (runs.ROOT / "Makefile").read_text("utf-8")


# --- JavaScript beside Python ---------------------------------------------------------------------------------------


@needs_browser
def test_tokens_are_those_of_the_tokenizer(scripts, model):
    _, tokenizer, _ = model
    stated = [{key: value} for key in DISEASES for value in range(VOCABULARY[key].highest + 1)]
    texts = [text for facts in stated for language in LANGUAGES for text in prompts(facts, language, 12)]
    texts += [text for finding in FINDINGS for language in LANGUAGES for text in phrases(finding, language)]
    texts += ODD
    assert len(texts) > 1000
    given = {"v": tokenizer.get_vocab(), "s": sorted(tokenizer.familiar), "t": texts, "c": tokenizer.model_max_length}
    scripts.run(f"globalThis.given = {json.dumps(given)}, given.s = new Set(given.s), 0")
    found = scripts.run("given.t.map(text => tokenize(text, given.v, given.c))")
    expected = tokenizer(texts, truncation=True, verbose=False)["input_ids"]
    assert [text for text, one, other in zip(texts, found, expected, strict=True) if one != other] == []
    found = scripts.run("given.t.map(text => unfamiliar(text, given.v, given.s))")
    plain = [place for place, text in enumerate(texts) if "[" not in text]
    assert [found[place] for place in plain] == [unfamiliar(tokenizer, [texts[place]]) for place in plain]


@needs_browser
def test_photographs_are_prepared_as_in_python(scripts):
    for size in (384, 128):
        for photograph in photographs():
            height, width = photograph.shape[:2]
            flat = base64.b64encode(photograph.tobytes()).decode()
            found = scripts.run(
                f"(() => {{ const data = Uint8Array.from(atob('{flat}'), one => one.charCodeAt(0));"
                f" const image = {{width: {width}, height: {height}, data}}, field = find(image);"
                f" return [field.surround, Array.from(prepare(image, {size}, field).data)]; }})()"
            )
            expected, surround = images.prepare_counted(photograph, size)
            off = np.abs(np.reshape(found[1], expected.shape) - expected.astype(int)).max(2)
            assert found[0] == surround
            assert off.mean() < 0.3, "of 255 levels"
            assert (off > 2).mean() < 0.015, "a pixel here and there at the rim of the field"


# --- The page -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The page of the published model, opened from disk and ready."""
    path = in_browser.build(MODEL, tmp_path_factory.mktemp("page"))
    browser.events.clear()
    browser.open(path)
    browser.run("visionclip.ready.then(() => 0)")
    browser.path = path
    return browser


@needs_browser
@needs_runtime
@pytest.mark.slow
def test_the_page_answers_as_the_model_does(page, model):
    network, tokenizer, size = model
    texts = [text for key in ("gc", "dr_grade", "pm") for one in LANGUAGES for text in prompts({key: 1}, one, 2)]
    names = ["硬性渗出", "optic disc"]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    page.run(f"visionclip.encodeTexts({json.dumps(texts)}).then(found => void (globalThis.texts = found))")
    page.run(f"visionclip.encodeTexts({json.dumps(names)}).then(found => void (globalThis.names = found))")
    for photograph in photographs()[:-1]:
        found = page.run(
            f"(async () => {{ const bytes = Uint8Array.from(atob('{encoded(photograph)}'), one => one.charCodeAt(0));"
            " const prepared = visionclip.prepare(await visionclip.pixelsOf(new Blob([bytes])), visionclip.facts.size);"
            " const eye = await visionclip.encodeImage(prepared);"
            " return [Array.from(eye.embedding), visionclip.logits(eye, texts),"
            " names.map(name => Array.from(visionclip.pointed(eye, name).data))]; })()"
        )
        pixels = images.standardise(images.to_tensor(images.prepare(photograph, size)[None]))
        with torch.no_grad():
            expected = network(pixels, tokens["input_ids"], tokens["attention_mask"])
        assert np.dot(found[0], expected.image_embeds[0].numpy()) >= COSINE
        assert np.abs(np.array(found[1]) - expected.logits_per_image[0].numpy()).max() <= LOGIT
        maps = network.point(pixels, names)[0]
        assert np.abs(np.reshape(found[2], maps.shape) - maps).mean() <= 0.002


@needs_browser
@needs_runtime
@pytest.mark.slow
def test_a_person_sees_shares_a_map_and_a_warning(page):
    click = "document.querySelectorAll('.example')[1].click()"
    page.run(
        f"new Promise(done => {{ new MutationObserver(() => status().includes('sees it') && done(0))"
        f".observe(document.getElementById('status'), {{childList: true}}); {click}; }})".replace(
            "status()", "document.getElementById('status').textContent"
        )
    )
    shares = page.run("[...document.querySelectorAll('#conditions .share')].map(one => one.textContent)")
    assert len(shares) == len(DISEASES)
    assert all(re.fullmatch(r"[\d.]+ %", share) for share in shares)
    page.run("visionclip.point('hard exudates')")
    assert page.run("visionclip.state.map.data.length") == 96 * 96
    assert "4 × 4 pixels" in page.run("document.getElementById('peak').textContent")
    page.run("document.querySelector('[value=zh]').click()")
    assert "青光眼" in page.run("document.getElementById('sentences').value")
    page.run("sentences.value = '<b>zebra</b>\\n未见青光眼。'; document.querySelector('#ask button').click()")
    page.run("new Promise(done => setTimeout(done, 500))")
    assert "zebra" in page.run("document.getElementById('warning').textContent")
    assert page.run("document.querySelectorAll('#shares b').length") == 0, "what is typed is text"
    page.run("visionclip.see(new Blob(['no picture']), 'notes.txt')")
    assert page.run("document.getElementById('status').textContent").startswith("notes.txt: no image")


@needs_browser
@needs_runtime
@pytest.mark.slow
def test_the_page_is_small_asks_for_nothing_and_fits_phone_and_desk(page):
    assert page.path.stat().st_size <= 25 * 2**20
    asked = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    wrong = [event for event in page.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert wrong == []
    text = page.path.read_text("utf-8")
    assert str(runs.ROOT) not in text
    assert "Not for clinical use" in text
    for width in (390, 1280):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert page.run("document.documentElement.scrollWidth") <= width
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    paper = page.run("getComputedStyle(document.documentElement).backgroundColor")
    assert max(map(int, re.findall(r"\d+", paper)[:3])) < 40
