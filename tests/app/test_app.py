"""The local page: what it answers, what it refuses, and that a person can use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

starlette = pytest.importorskip("starlette", reason="needs pip install 'fli2moe[app]'")
uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'fli2moe[app]'")

from starlette.testclient import TestClient  # noqa: E402

from fli2moe.app import make_app, serve  # noqa: E402
from fli2moe.app.server import MOST_BYTES, MOST_CHARACTERS  # noqa: E402
from fli2moe.data.sample import Dataset  # noqa: E402
from fli2moe.errors import MachineError  # noqa: E402
from fli2moe.predictor import Predictor  # noqa: E402

EVIL = "a red dog <script>document.title='pwned'</script> \"'{{7*7}}"


@pytest.fixture
def client(predictor: Predictor) -> TestClient:
    return TestClient(make_app(predictor, budget=100), base_url="http://127.0.0.1:7860")


def form_of(dataset: Dataset) -> dict[str, Any]:
    sample = dataset.test[0]
    picture = Path(str(sample.inputs["image"])).read_bytes()
    return {
        "data": {"input:text": str(sample.inputs["text"])},
        "files": {"input:image": ("../../etc/passwd.png", picture, "image/png")},
    }


def wait(client: TestClient, id: str) -> dict[str, Any]:
    for _ in range(600):
        state: dict[str, Any] = client.get(f"/jobs/{id}").json()
        if state["state"] != "running":
            return state
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_a_sample_is_predicted_and_explained(
    client: TestClient, predictor: Predictor, dataset: Dataset
):
    id = client.post("/jobs", **form_of(dataset)).json()["id"]
    state = wait(client, id)
    assert state["state"] == "done", state
    prediction = predictor(dataset.test[0].inputs)
    assert state["said"]["labels"] == list(prediction.labels)
    assert dict(state["said"]["probabilities"]) == pytest.approx(dict(prediction.probabilities))
    page = client.get(f"/jobs/{id}/report").text
    assert page.startswith("<!doctype html>")
    assert "passwd" not in page
    assert client.get("/jobs/none/report").status_code == 404


def test_the_page_names_every_modality_and_class(client: TestClient):
    answer = client.get("/")
    assert answer.status_code == 200
    for text in ("input:text", "input:image", "sunny", "match"):
        assert text in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_what_a_form_lacks_is_one_line(client: TestClient, dataset: Dataset):
    form = form_of(dataset)

    def error(**changes: Any) -> str:
        answer = client.post("/jobs", **{**form, **changes})
        assert answer.status_code == 400
        return str(answer.json()["error"])

    assert error(files={}) == "image: nothing given; type a text, choose a file"
    assert "at most 100,000" in error(data={"input:text": "x" * (MOST_CHARACTERS + 1)})
    assert "unknown" in error(data={**form["data"], "target": "dgo"})
    broken = {"input:image": ("a.png", b"not a picture", "image/png")}
    id = client.post("/jobs", **{**form, "files": broken}).json()["id"]
    state = wait(client, id)
    assert state["state"] == "failed"
    assert "Traceback" not in state["error"]
    assert "picture" in state["error"]


def test_other_hosts_other_sites_and_too_much_are_refused(client: TestClient, dataset: Dataset):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "localhost:7860"}).status_code == 200
    elsewhere = {"origin": "http://evil.example"}
    assert client.post("/jobs", headers=elsewhere, **form_of(dataset)).status_code == 403
    assert client.post("/jobs/x/cancel", headers={"origin": "null"}).status_code == 403
    large = {"content-length": str(MOST_BYTES + 1)}
    assert client.post("/jobs", headers=large, content=b"x").status_code == 413

    def chunks() -> Iterator[bytes]:  # no length is told
        for _ in range(MOST_BYTES // 2**20 + 1):
            yield b"x" * 2**20

    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/jobs", headers=kind, content=chunks())
    assert answer.status_code in (400, 413)


def test_one_at_a_time_and_cancel(predictor: Predictor, dataset: Dataset):
    slow = replace(predictor)
    started, go = threading.Event(), threading.Event()

    def explain(*_: Any, progress: Any, **__: Any) -> Any:
        started.set()
        go.wait(20)
        progress("model evaluations", 1, 100)
        raise AssertionError("not cancelled")

    object.__setattr__(slow, "explain", explain)
    client = TestClient(make_app(slow), base_url="http://127.0.0.1:7860")
    id = client.post("/jobs", **form_of(dataset)).json()["id"]
    assert started.wait(20)
    second = client.post("/jobs", **form_of(dataset))
    assert second.status_code == 409
    assert "another sample" in second.json()["error"]
    client.post(f"/jobs/{id}/cancel")
    go.set()
    assert wait(client, id)["state"] == "cancelled"


def test_what_was_uploaded_is_removed(
    client: TestClient, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wait(client, client.post("/jobs", **form_of(dataset)).json()["id"])
    client.post("/jobs", data={"input:text": "no picture"})
    for _ in range(100):
        if not list(tmp_path.glob("fli2moe-*")):
            break
        time.sleep(0.05)
    assert not list(tmp_path.glob("fli2moe-*"))


@pytest.fixture
def address(predictor: Predictor) -> Iterator[str]:
    """A server on a free port of the loopback address."""
    app = make_app(predictor, budget=150)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_a_port_that_is_taken_is_one_line(predictor: Predictor, address: str):
    port = int(address.rpartition(":")[2])
    with pytest.raises(MachineError, match=f"port {port}: cannot be listened on; choose another"):
        serve(predictor, port=port)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_person_can_use_it(
    browser: Any, address: str, dataset: Dataset, tmp_path: Path, width: int, scheme: str
):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("request", lambda r: requests.append(r.url))
    page.goto(address)
    picture = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.open(str(dataset.test[0].inputs["image"])).save(picture)
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector("#message.error")
    assert "nothing given" in page.locator("#message").inner_text()
    page.locator("textarea").fill(EVIL)
    page.locator("input[type=file]").set_input_files(picture)
    assert page.locator(".drop img").is_visible()
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector("#report:visible", timeout=60_000)
    frame = page.frame_locator("#report")
    frame.locator(".card").wait_for()
    assert "<script>" in frame.locator(".running").inner_text()
    assert page.locator("#prediction li").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() != "pwned"
    complaints = [c for c in complaints if "400" not in c]  # the answer to the empty form
    assert complaints == []
    assert all(r.startswith((address, "blob:", "data:")) for r in requests)
    shot = Image.open(Path(page.screenshot(path=tmp_path / "app.png") and tmp_path / "app.png"))
    low, high = shot.convert("L").getextrema()
    assert high - low > 100
    context.close()
