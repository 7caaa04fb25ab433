"""The report: order, escaping, size; and in a real browser: sorts, filters, opens, asks for nothing."""

import dataclasses
import hashlib
import json
import re
import shutil
import tracemalloc
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from headless_browser import Browser
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chests import small_chest, write_study

import fastct
from fastct.comparison import write_comparison
from fastct.geometry import Geometry
from fastct.pictures import study_pictures
from fastct.report import ReportFacts, render_report
from fastct.reporting import write_report

FACTS = ReportFacts(
    title="Trial",
    version="9.8.7",
    severity_rule="CT-1: above 0 up to 25 %.",
    noise_floor_percent=1.5,
    settings={"codec": "ctpack", "chunks": [8, 64, 64]},
    missing_sources=("studies/CT-1/lost.nii.gz",),
    flag_meanings={"lung_cut": "A lung reaches the last slice."},
    informing_flags={"hu_floor"},
)
HOSTILE = "</script x><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&]]>"


def row(study_id, percent=None, severity="", category="", **more):
    status = "done" if severity else "converted"
    scored = {"lesion_percent": percent, "lesion_percent_max": percent, "lung_ml": 4000.0 + (percent or 0)}
    source = {"lesion_source": "threshold", "source": f"{study_id}.nii.gz", "flags": ""}
    named = {"study_id": study_id, "category": category, "status": status, "severity": severity}
    return {**named, **scored, **source, **more}


ROWS = [
    row("study_0001", 3.0, "CT-1", "CT-1"),
    row("study_0002", 60.0, "CT-3", "CT-2", flags="lung_cut;hu_floor"),
    row("study_0003", status="failed", error="the gzip stream ends early"),
    row("study_0004", 26.0, "CT-2", "CT-2"),
    row("study_0005", 90.0, "CT-4", "CT-4", lesion_source="mask"),
    row("study_0006"),
    row("study_0010", 61.0, "CT-3", "CT-3", flags="hu_floor"),
]


def render(rows=ROWS, pictures=None, facts=FACTS):
    return "".join(render_report(rows, pictures or {}, facts))


@pytest.fixture(scope="module")
def drawn():
    shape = (12, 48, 64)
    hu, lungs, lesion = np.full(shape, 40, np.int16), np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    lungs[2:10, 8:40, 6:28], lungs[2:10, 8:40, 36:58] = 1, 2
    hu[lungs > 0] = -850
    lesion[4:6, 20:30, 10:20] = 1
    return study_pictures(hu, lungs, lesion, Geometry(shape, np.diag([-5.0, 5.0, 20.0, 1.0])))


class Page(HTMLParser):
    """Tags, attributes and texts of a page; text of scripts by id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.blocks, self.cells, self._open = [], [], {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.blocks[attributes.get("id")] = data
        elif attributes.get("class") == "study":
            self.cells.append(data)


def test_highest_severity_first_then_percent_then_unscored_and_failed_on_top():
    page = render()
    assert Page(page).cells == [f"study_{n:04d}" for n in (5, 10, 2, 4, 1, 6)]
    found = Page(render([*ROWS, row("study_0007", status="done", flags="hu_floor;lung_empty")])).cells
    assert found == [f"study_{n:04d}" for n in (7, 5, 10, 2, 4, 1, 6)], "what no class is known of is looked at first"
    assert page.index("the gzip stream ends early") < page.index('id="severity"') < page.index('id="list"')


def test_the_page_says_what_it_must():
    page = render()
    for said in (
        "Not a medical device",
        "noise floor is 1.5 %",
        FACTS.severity_rule,
        "fastct 9.8.7",
        "ctpack",
    ):
        assert said in page
    assert "studies/CT-1/lost.nii.gz" in page
    assert "A lung reaches the last slice." in page


def test_doubtful_are_flags_that_cast_doubt_and_estimates_near_an_edge():
    lines = re.findall(r'data-marks="([^"]*)".*?aria-expanded="false">(study_\d+)<', render())
    marks = {study: set(filter(None, words.split(";"))) for words, study in lines}
    assert marks == {
        "study_0005": set(),
        "study_0010": {"hu_floor"},
        "study_0002": {"doubtful", "differs", "lung_cut", "hu_floor"},
        "study_0004": {"near edge", "doubtful"},
        "study_0001": set(),
        "study_0006": set(),
    }


def test_without_registry_classes_there_is_no_agreement():
    page = render([dict(row, category="") for row in ROWS])
    assert "kappa" not in page
    assert "Registry</button>" not in page
    assert "kappa" in render()


@pytest.mark.parametrize("rows", [[], [row("only", status="failed", error="x")], [{"study_id": "bare"}]])
def test_few_rows_make_a_page(rows):
    assert render(rows).rstrip().endswith("</html>")


def test_the_same_input_gives_the_same_page(drawn):
    assert render(pictures={"study_0001": drawn}) == render(pictures={"study_0001": drawn})


MARKUP = (
    "</script ",
    "<!--<script ",
    "-->",
    "<img src=x onerror=a ",
    '"',
    "' onclick=b ",
    ">",
    "</td>",
    "&lt;",
)
TEXT = st.lists(
    st.sampled_from(MARKUP) | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF)), max_size=6
).map("".join)


@given(study=TEXT, flag=TEXT, error=TEXT, source=TEXT, title=TEXT)
@settings(max_examples=40)
def test_strings_from_files_are_never_markup(study, flag, error, source, title):
    rows = [row(study, 5.0, "CT-1", source=source, flags=flag), row(study, status="failed", error=error)]
    facts = ReportFacts(title, study, error, 1.0, {flag: source}, notes=(error,), missing_sources=(source,))
    page = Page(render(rows, {}, facts))
    assert set(page.tags) <= set(Page(render()).tags)
    assert page.tags.count("script") == 4, "two blocks of names, one of the study, one script"
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "".join(page.cells) == study
    columns, block = json.loads(page.blocks["columns"]), json.loads(page.blocks["d0"])
    assert dict(zip(columns, block["row"], strict=True))["source"] == source


def test_names_that_are_no_text_are_shown():
    page = render([row("caf\udce9", 5.0, "CT-1")])
    assert "caf\\udce9" in page
    page.encode("utf-8")


def test_numbers_that_are_none_become_null():
    page = Page(render([row("a", float("nan"), "CT-1", hu_max=float("inf"), more=np.float32(2.5), n=np.int64(3))]))
    columns, values = json.loads(page.blocks["columns"]), json.loads(page.blocks["d0"])["row"]
    found = dict(zip(columns, values, strict=True))
    assert [found[name] for name in ("lesion_percent", "hu_max", "more", "n")] == [None, None, 2.5, 3]


def test_the_policy_names_the_only_script_and_style_and_no_address():
    page = render()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for name, tag in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        text = re.search(tag, page, re.DOTALL).group(1)
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    addresses = set(re.findall(r"\b(?:https?|wss?|ftp)://[^\s\"'<)]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place


def many(drawn, studies=1110):
    """Rows of a whole data set, and pictures of real size made when asked for."""
    generator = np.random.default_rng(1)
    percents = np.round(generator.gamma(1.0, 12.0, studies).clip(0, 99), 1).tolist()
    ranks = np.digitize(percents, (1.5, 25, 50, 75)).tolist()
    rows = [
        row(f"study_{n:04d}", p, f"CT-{r}", f"CT-{r}") for n, (p, r) in enumerate(zip(percents, ranks, strict=True))
    ]

    class Pictures(dict):
        def get(self, name, default=None):
            noise = np.random.default_rng(int(name[6:])).bytes(8000)
            return dataclasses.replace(drawn, montage=drawn.montage + noise)

    return rows, Pictures()


def test_a_whole_data_set_is_small_and_never_held_whole(drawn):
    rows, pictures = many(drawn)
    tracemalloc.start()
    written = sum(len(piece.encode()) for piece in render_report(rows, pictures, FACTS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 12_000_000 < written < 25_000_000
    assert peak < written / 2


def test_ten_times_as_many_studies_still_make_one_page_that_opens(drawn):
    rows, pictures = many(drawn, 11_100)
    pieces = list(render_report(rows, pictures, FACTS))
    assert sum(len(piece.encode()) for piece in pieces) < 32_000_000
    page = Page("".join(pieces))
    assert len(page.cells) == 4000
    ranks = [int(severity) for severity in re.findall(r'data-severity="CT-(.)"', "".join(pieces))]
    assert ranks == sorted(ranks, reverse=True), "those of highest severity stay"
    blocks = [block for name, block in page.blocks.items() if name and name.startswith("d")]
    shown = ['"pictures":null' not in block for block in blocks]
    assert shown[0]
    assert not shown[-1]
    assert shown == sorted(shown, reverse=True)
    assert "studies of highest severity of 11100" in "".join(pieces)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on PATH")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


LINES = "document.querySelectorAll('#list tbody tr:not(.detail):not([hidden]) .study')"
SHOWN = f"[...{LINES}].map(button => button.textContent)"


def written(folder, rows, pictures):
    path = folder / "report.html"
    path.write_text(render(rows, pictures), encoding="utf-8")
    return path


def test_browser_sorts_filters_opens_without_complaint(browser, drawn, tmp_path):
    browser.open(written(tmp_path, ROWS, {"study_0002": drawn}))
    assert browser.run(SHOWN) == [f"study_{n:04d}" for n in (5, 10, 2, 4, 1, 6)]
    click = "document.querySelector('[data-key={}] button').click()"
    browser.run(click.format("lung_ml"))
    assert browser.run(SHOWN) == [f"study_{n:04d}" for n in (5, 10, 2, 4, 1, 6)]
    browser.run(click.format("lung_ml"))
    assert browser.run(SHOWN) == [f"study_{n:04d}" for n in (6, 1, 4, 2, 10, 5)]
    assert browser.run("document.querySelector('[aria-sort]').dataset.key") == "lung_ml"
    browser.run("document.querySelector('[name=class][value=CT-3]').click()")
    assert browser.run(SHOWN) == ["study_0002", "study_0010"]
    assert browser.run("document.querySelector('#count').textContent") == "2 of 6 studies"
    browser.run("document.querySelector('#s1 .study').click()")
    assert browser.run("document.querySelectorAll('#s1 + .detail .planes figure').length") == 5
    decoded = "Promise.all([...document.querySelectorAll('.detail image')].map(i => i.decode().then(() => 1)))"
    assert browser.run(decoded) == [1] * 10
    assert "Details of study_0002" in browser.run("document.querySelector('#s1 + .detail').innerHTML")
    assert "study=study_0002" in browser.run("location.hash")
    browser.run("document.querySelector('#s1 .study').click()")
    assert browser.run("document.querySelectorAll('.detail').length") == 0
    assert browser.complaints() == []
    assert browser.requests() <= {"file", "data"}


def test_browser_lines_up_bars_and_keeps_those_without_class_first(browser, tmp_path):
    without_class = row("study_0007", status="done", flags="lung_empty", notes="2-D image read as one slice")
    browser.open(written(tmp_path, [*ROWS, without_class], {}), "#study=study_0007")
    browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    lefts = browser.run("[...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().left)")
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert len(lefts) == 5
    assert max(lefts) - min(lefts) < 1
    for key in ("study", "severity"):
        browser.run(f"document.querySelector('[data-key={key}] button').click()")
    assert browser.run(SHOWN)[0] == "study_0007"
    assert "2-D image read as one slice" in browser.run("document.querySelector('.detail').textContent")


def test_browser_tells_a_lesion_s_density(browser, drawn, tmp_path):
    density = {"lesion_mean_hu": -512.3, "lesion_ground_glass_percent": 75.0, "lesion_consolidation_percent": 12.5}
    rows = [row("study_0001", 30.0, "CT-2", "CT-2", **{**density, "lesion_ml": 80.0, "lesion_outside_ml": 0.0})]
    rows.append(row("study_0002", 0.0, "CT-0", "CT-0", **{**density, "lesion_mean_hu": "", "lesion_ml": 0.0}))
    browser.open(written(tmp_path, rows, {}), "#study=study_0001&study=study_0002")
    told = "Object.fromEntries([...document.querySelectorAll('#s{} + .detail dt')].map("
    told += "name => [name.textContent, name.nextSibling.textContent]))"
    sick, sound = (browser.run(told.format(n)) for n in (0, 1))
    assert sick["Mean density"] == "−512 HU"
    assert sick["File"] == "study_0001.nii.gz"
    assert sick["Ground glass"] == "60.0 mL (75 % of the lesion)"
    assert sick["Consolidation"] == "10.0 mL (13 % of the lesion)"
    assert not {"Ground glass", "Consolidation", "Mean density", "Lesion outside of the lungs"} & set(sound)
    assert browser.complaints() == []


def test_browser_is_led_by_the_address_and_the_keyboard(browser, drawn, tmp_path):
    path = written(tmp_path, ROWS, {"study_0004": drawn})
    browser.open(path, "#study=study_0004&sort=study&class=CT-1&class=CT-2&q=study")
    assert browser.run(SHOWN) == ["study_0001", "study_0004"]
    assert browser.run("document.querySelectorAll('#s3 + .detail .planes figure').length") == 5
    browser.run("document.querySelector('#s0 .study').focus()")
    browser.press("ArrowDown")
    assert browser.run("document.activeElement.textContent") == "study_0004"
    browser.press("Escape")
    assert browser.run("document.querySelectorAll('.detail').length") == 0
    browser.press("Enter", "\r")
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.press("o", "o")
    assert browser.run("getComputedStyle(document.querySelector('image.overlay')).display") == "none"
    browser.press("/", "/")
    assert browser.run("document.activeElement.name") == "q"
    assert browser.complaints() == []


def test_browser_runs_nothing_that_a_file_says(browser, drawn, tmp_path):
    hostile = [row(HOSTILE, 30.0, "CT-2", "CT-2", flags=HOSTILE, source=HOSTILE, more=HOSTILE)]
    hostile.append(row(HOSTILE, status="failed", error=HOSTILE, source=HOSTILE))
    browser.open(written(tmp_path, hostile, {HOSTILE: drawn}), "#q=%3Cscript%3E")
    browser.run("document.querySelector('.study').click()")
    assert browser.run("document.querySelector('.detail dl').textContent.includes('<script>alert(1)')")
    assert browser.run("document.querySelectorAll('img[src=x], main script:not([type])').length") == 0
    assert not [e for e in browser.events if e["method"] == "Page.javascriptDialogOpening"]
    assert browser.complaints() == []
    browser.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))")
    assert browser.run("typeof hacked") == "undefined", "the policy lets no other script run"
    browser.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert any("Content Security Policy" in json.dumps(event) for event in browser.complaints())


def test_browser_takes_a_whole_data_set(browser, drawn, tmp_path):
    rows, pictures = many(drawn)
    browser.open(written(tmp_path, rows, pictures), "#study=study_0700")
    assert browser.run(SHOWN + ".length") == 1110
    assert browser.run("document.querySelectorAll('.detail').length") == 1
    sorting = "(() => { const t = performance.now(); document.querySelector('[data-key=study] button').click();"
    assert browser.run(sorting + " document.body.offsetHeight; return performance.now() - t; })()") < 5000
    assert browser.run(SHOWN + "[0]") == "study_0000"
    assert browser.run("document.querySelectorAll('.thumb canvas').length") < 200, "thumbnails wait to be near"
    assert browser.complaints() == []


def test_browser_runs_no_name_of_a_file(browser, tmp_path):
    """Studies whose files are called so, from the file to the report and to a comparison."""
    names = ["<script>alert(1)<script>", "<img src=x onerror=alert(2)>\"'&"]
    for number, name in enumerate(names):
        hu, _, affine = small_chest(number)
        write_study(tmp_path / "source" / f"{name}.nii.gz", hu, affine)
    store = tmp_path / "<b>store"
    fastct.convert(tmp_path / "source", store, workers=1)
    assert set(fastct.score(store, workers=1).done) == set(names)
    pages = [write_report(store), write_comparison(store, *names)]
    for page in pages:
        browser.open(Path(page), "")
        for name in names:
            assert browser.run(f"document.body.innerText.includes({json.dumps(name)})")
        assert browser.run("document.querySelectorAll('img[src=x], main script:not([type]), h1 b').length") == 0
        assert not [e for e in browser.events if e["method"] == "Page.javascriptDialogOpening"]
        assert browser.complaints() == []
