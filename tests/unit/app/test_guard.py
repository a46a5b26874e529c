"""The app's door, over HTTP: who is refused, what is too large, and that no path leads to a file of the server."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from gradio.utils import get_upload_folder
from starlette.routing import Mount

from dit_prune_viz.app.guard_options import guarded
from dit_prune_viz.app.guard_rules import GuardRules
from dit_prune_viz.app.pages.gradio_seams import NO_ADDRESSES
from dit_prune_viz.app.server import build_app
from dit_prune_viz.app.session.health import health
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.app.theme import launch_options
from dit_prune_viz.figures.library import PLOTLY_JS
from dit_prune_viz.pipelines.load_settings import LoadSettings

LOGIN = {"username": "ada", "password": "secret"}
RULES = GuardRules(public_hosts=("lab.example",), most_upload=1 << 20, most_body=1 << 19, logins=3)
WITHOUT_LOGIN = {
    "/", "/assets", "/config", "/favicon.ico", "/health", "/login", "/logout", "/manifest.json", "/robots.txt",
    "/static", "/theme.css", "/gradio_api/app_id", "/gradio_api/login_check", "/gradio_api/startup-events",
    "/gradio_api/theme.css", "/gradio_api/user",
}  # fmt: skip
"""What answers everybody. The page and its configuration ask for the login themselves."""


@pytest.fixture(scope="module")
def running(tiny_flux, tiny_clip):
    startup = start(AppSettings(LoadSettings(str(tiny_flux), "cpu", "float32"), str(tiny_clip)))
    app = build_app(startup)
    guards = guarded(RULES, lambda: health(startup))
    _, address, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, auth=[tuple(LOGIN.values())], **launch_options(), **guards
    )
    startup.wait()
    yield app, address.rstrip("/")
    app.close()


@pytest.fixture(scope="module")
def url(running):
    return running[1]


@pytest.fixture(scope="module")
def member(url):
    """Somebody who has logged in."""
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/login", data=LOGIN).status_code == 200
        yield client


def raw(url: str, path: str, client: httpx.Client | None = None, **headers: str) -> tuple[int, bytes]:
    """The answer to a path that is sent letter by letter."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())} if client else {}
    connection.request("GET", path, headers={**cookies, **headers})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def paths_of(routes: Iterable) -> Iterator[str]:
    """The paths of all routes, also of those that a router brings."""
    for route in routes:
        inside = getattr(route, "original_router", None)
        if inside is not None:
            yield from paths_of(inside.routes)
        elif not isinstance(route, Mount):
            yield route.path


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://lab.example.evil", "http://[", "file://"]
)
def test_other_origins_are_refused_everywhere(url, member, origin):
    for path in ("/", "/config", "/gradio_api/queue/join", "/gradio_api/upload", "/login", "/gradio_api/mcp/sse"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = member.request(method, path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
            assert "access-control-allow-origin" not in answer.headers
            if method != "OPTIONS":
                assert answer.status_code == 403
                assert "are refused; open the app itself" in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_that_a_browser_says_are_from_elsewhere_are_refused(member, site):
    image = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert member.get("/gradio_api/info", headers=image).status_code == 403
    assert member.get("/config", headers=image).status_code == 403
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert member.get("/", headers=link).status_code == 200
    assert member.post("/login", data=LOGIN, headers=link).status_code == 403
    assert member.get("/gradio_api/info", headers=link).status_code == 403


def test_its_own_pages_and_clients_without_a_browser_are_let_in(url, member):
    for headers in ({}, {"Origin": url}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "https://lab.example"}):
        assert member.get("/gradio_api/info", headers=headers).status_code == 200
    # A proxy that does not pass the host on: the browser alone knows that the page is the app's own.
    behind = {"Origin": "https://proxy.example", "Sec-Fetch-Site": "same-origin", "Host": "127.0.0.1:7860"}
    assert member.get("/gradio_api/info", headers=behind).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("192.0.2.1", 403), ("lab.example:80", 200)],
)
def test_a_local_app_answers_under_its_own_names_only(url, host, status):
    found, body = raw(url, "/", Host=host)
    assert found == status
    assert (b"--public-host" in body) is (status == 403)


def test_beyond_loopback_any_name_goes_unless_some_are_given():
    plain, named = GuardRules(loopback=False), GuardRules(loopback=False, public_hosts=("lab.example",))
    for host in ("lab.example", "10.0.0.7:7860", "[fe80::1]:7860", "localhost"):
        assert plain.refuses("GET", "/", {"host": host}) is None
        assert named.refuses("GET", "/", {"host": host}) is None
    assert plain.refuses("GET", "/", {"host": "evil.example"}) is None
    assert named.refuses("GET", "/", {"host": "evil.example"}).status == 403


def test_the_page_has_a_policy_that_runs_its_own_scripts_only(url, member):
    answers = [member.get("/") for _ in range(2)]
    policies = [answer.headers["content-security-policy"] for answer in answers]
    nonces = [re.search(r"script-src 'nonce-([\w-]{22})' 'strict-dynamic' 'unsafe-eval';", one)[1] for one in policies]
    assert nonces[0] != nonces[1]
    scripts = re.findall(r"<script[^>]*>", answers[0].text)
    assert len(scripts) >= 4
    assert all(f'nonce="{nonces[0]}"' in one for one in scripts)
    for part in ("object-src 'none'", "frame-ancestors 'self'", "base-uri 'self'", "connect-src 'self' data: blob:"):
        assert f"; {part}" in policies[0]
    assert "http" not in policies[0]
    for answer in (answers[0], member.get("/config"), member.get("/gradio_api/file=/etc/passwd"), member.get("/no")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "content-security-policy" in answer.headers


def test_a_space_may_be_shown_by_hugging_face_alone():
    from dit_prune_viz.app.guard_headers import page_policy

    assert page_policy("x", space=True).endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")


def test_nothing_answers_without_the_login_but_what_leads_to_it(running):
    app, url = running
    paths = set(paths_of(app.app.routes))
    assert len(paths) > 60
    open_to_all = set()
    with httpx.Client(base_url=url, timeout=60) as client:
        for path in sorted(paths):
            plain = re.sub(r"=?\{[^}]*\}", "=x" if "={" in path else "x", path)
            for method in ("GET", "POST"):
                answer = client.request(method, plain, json={} if method == "POST" else None)
                if answer.status_code not in (401, 403, 404, 405):
                    open_to_all.add(path)
    known = {
        path
        for path in open_to_all
        if any(path.rstrip("/") == one or path.startswith(f"{one}/") for one in WITHOUT_LOGIN) or path == "/"
    }
    assert open_to_all == known


@pytest.mark.parametrize(
    "path",
    [
        "monitoring", "monitoring/summary", "monitoring/x", "gradio_api/proxy=https://example.com/x",
        "gradio_api/proxy=http://127.0.0.1:22/", "gradio_api/file=https://example.com/x", "gradio_api/file=%68ttp://x/",
        "gradio_api/file=HTTPS://example.com", "gradio_api/file=file:///etc/passwd",
        "gradio_api/deep_link?session_hash=x",
        "gradio_api/token", "gradio_api/vibe-code", "gradio_api/dev/reload", "gradio_api/file/etc/passwd",
        "gradio_api/stream/x/y/1/playlist.m3u8", "gradio_api/run-history/records", "gradio_api/profiling/traces",
    ],
)  # fmt: skip
def test_routes_that_the_app_has_no_use_for_are_closed(url, member, path):
    assert raw(url, f"/{path}", member)[0] == 404


def test_no_path_leads_to_a_file_of_the_server(url, member, tmp_path):
    """Files beside the app's own, by every way of writing their path, and through a link inside the upload folder."""
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)
    link = uploads / "link-out.txt"
    link.symlink_to(secret)
    try:
        targets = [str(secret), str(Path(__file__)), "/etc/passwd", str(Path.home() / ".bashrc")]
        up = "/".join([".."] * 30)
        paths = [str(link), str(link).replace("/", "%2f"), str(PLOTLY_JS.parent / "x" / ".." / "build.mjs")]
        for target in targets:
            twisted = f"{uploads}/{up}{target}"
            paths += [target, f"/{target}", f"{up}{target}", twisted, f"{PLOTLY_JS}/{up}{target}", f"{target}\0.png"]
        ways = (
            lambda path: path.replace("\0", "%00"),
            lambda path: quote(path, safe=""),
            lambda path: quote(path).replace("..", "%2e%2e"),
            lambda path: quote(path).replace("../", "..%2f"),
            lambda path: quote(quote(path, safe=""), safe=""),
            lambda path: quote(path).replace("../", "..%5c"),
            lambda path: quote(path).replace("../", "..%c0%af"),
        )
        for path in paths:
            for way in ways:
                for start in ("/gradio_api/file=", "/file=", "/static/", "/assets/", "/gradio_api/custom_component/"):
                    status, body = raw(url, start + way(path), member)
                    assert status >= 400, (start, path)
                    assert b"a secret" not in body
                    assert b"root:" not in body
    finally:
        link.unlink()
    assert raw(url, f"/gradio_api/file={PLOTLY_JS}", member)[0] == 200  # what is served is served


def test_plotly_is_the_one_file_that_other_ports_may_load(url):
    from_elsewhere = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
    assert raw(url, f"/gradio_api/file={PLOTLY_JS}/../build.mjs", **from_elsewhere)[0] == 403
    assert raw(url, f"/gradio_api/file={PLOTLY_JS}", **from_elsewhere)[0] == 401  # the file route wants the login


def test_uploads_stay_in_their_folder_whatever_their_name(member):
    uploads = Path(get_upload_folder()).resolve()
    for name in (
        "../../../evil.json",
        "/etc/evil.json",
        "..\\..\\evil.json",
        "a\0b.json",
        "<img src=x>.json",
        "x" * 300,
    ):
        answer = member.post("/gradio_api/upload", files={"files": (name, b"{}")})
        if answer.status_code == 200:
            (path,) = answer.json()
            assert Path(path).resolve().is_relative_to(uploads)
            assert not {"<", ">", "\\", "\0"} & set(Path(path).name)
        else:
            assert answer.status_code in (400, 500)  # the disk has no such name
    assert not Path("/etc/evil.json").exists()


def test_uploaded_pages_run_nothing(member):
    page = b"<script>alert(1)</script>"
    for name in ("x.html", "x.svg", "x.js", "x.xml"):
        (path,) = member.post("/gradio_api/upload", files={"files": (name, page)}).json()
        answer = member.get(f"/gradio_api/file={path}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        assert re.search(r"default-src 'none'.*; sandbox$", answer.headers["content-security-policy"])


def test_what_one_person_uploaded_needs_the_login(url, member):
    (path,) = member.post("/gradio_api/upload", files={"files": ("mine.txt", b"my recipe")}).json()
    assert raw(url, f"/gradio_api/file={path}")[0] == 401
    assert raw(url, f"/gradio_api/file={path}", member) == (200, b"my recipe")
    forged = {"Cookie": "; ".join(f"{name}=guessed" for name in member.cookies)}
    assert raw(url, f"/gradio_api/file={path}", **forged)[0] == 401


def test_large_requests_are_refused_in_one_sentence(url, member):
    too_large = member.post("/gradio_api/upload", files={"files": ("x.txt", b"x" * (RULES.most_upload + 1))})
    assert (too_large.status_code, too_large.text) == (413, "At most 1 MB can be sent at once; send less.")
    body = b'{"data": ["' + b"x" * RULES.most_body + b'"]}'
    for content in (body, (part for part in (body[:1000], body[1000:]))):  # with a length, and in chunks without one
        answer = member.post(
            "/gradio_api/call/open_recipe", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413
        assert answer.json()["detail"].endswith("can be sent at once; send less.")
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.txt"\r\n\r\n'
    chunks = (part for part in (head, *[b"x" * 65536] * 20))
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert member.post("/gradio_api/upload", content=chunks, headers=kind).status_code == 413
    status, _ = raw(url, "/", **{"Content-Length": "-1"})
    assert status in (200, 400)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": ' + b"[" * 100_000,
        b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data": [NaN, Infinity]}',
        b'{"data": [' + b"9" * 5000 + b"]}",
        b'{"data": ["\xff\xfe"]}',
        b'{"data": ["\\ud83d"]}',
        b"[]",
        b"",
        b'{"data": {"a": 1}, "fn_index": -1}',
    ],
)
def test_bodies_that_are_no_call_are_no_fault_of_the_servers(member, body):
    """Whatever the answer is, the next one is answered."""
    for path in ("/gradio_api/call/prune", "/gradio_api/queue/join", "/gradio_api/run/prune"):
        answer = member.post(path, content=body, headers={"Content-Type": "application/json"})
        assert "Traceback" not in answer.text
    assert member.get("/health").json()["status"] == "ok"


def test_a_body_that_never_comes_is_not_waited_for(url):
    """What is too long by its own word is refused at once."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_addresses_are_not_fetched(member):
    """A file value with an address is refused before anybody asks for the address."""
    for address in ("http://192.0.2.1/x.png", "https://example.com/x.png", "http://127.0.0.1:1/"):
        value = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        call = member.post("/gradio_api/call/generate", json={"data": ["red apple", 0, 2, 1, value]})
        event = call.json()["event_id"]
        answer = member.get(f"/gradio_api/call/generate/{event}").text
        assert "event: error" in answer
        assert NO_ADDRESSES in answer


def test_health_needs_no_login_and_tells_no_secret(url, tiny_flux):
    answer = httpx.get(f"{url}/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": "0.1.0", "model": "tiny-flux", "jobs": 0}
    assert str(tiny_flux) not in answer.text
    assert httpx.post(f"{url}/health").status_code in (404, 405)


def test_health_says_when_no_model_could_be_prepared(tmp_path, tiny_clip):
    startup = start(AppSettings(LoadSettings(str(tmp_path), "cpu", "float32"), str(tiny_clip)))
    assert health(startup)["status"] in ("loading", "failed")
    startup.wait()
    assert health(startup) == {"status": "failed", "version": "0.1.0", "model": None, "jobs": 0}


def test_passwords_cannot_be_guessed_fast(running):
    """Last of all here: this address has to wait afterwards."""
    url = running[1]
    wrong = {**LOGIN, "password": "guess"}
    assert [httpx.post(f"{url}/login", data=wrong).status_code for _ in range(4)] == [400, 400, 400, 429]
    answer = httpx.post(f"{url}/login", data=LOGIN)
    assert answer.status_code == 429
    assert re.fullmatch(r"Too many wrong passwords; try again in \d+ s\.", answer.json()["detail"])
    assert json.loads(httpx.get(f"{url}/health").text)["status"] == "ok"
