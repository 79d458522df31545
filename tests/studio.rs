//! `muse studio` as a browser, and as somebody who means no good, speaks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A server on a port of its own, ended with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        Self::start_in(Path::new(env!("CARGO_MANIFEST_DIR")), "127.0.0.1:0")
    }

    /// With that folder for whatever it might write.
    fn start_in(folder: &Path, listen: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_muse"))
            .args([
                "studio",
                "--device",
                "cpu",
                "--threads",
                "1",
                "--listen",
                listen,
                "--host",
                "studio.test",
            ])
            .args(["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo")])
            .current_dir(folder)
            .envs(["HOME", "TMPDIR", "XDG_CACHE_HOME"].map(|name| (name, folder)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("an address").to_owned();
        Server { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// What it answers to these bytes, until it closes the connection.
    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Answer::read(stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)
                .as_bytes(),
        )
    }

    /// Begins a job.
    fn order(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&post(&self.address, &[], &body.to_string())).unwrap();
        stream
    }

    fn post(&self, headers: &[&str], body: &str) -> Answer {
        self.raw(&post(&self.address, headers, body))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A job's request; `headers` beside, or in the place of, the usual ones.
fn post(host: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let host = format!("Host: {host}");
    let usual = [&host[..], "Content-Type: application/json", "Connection: close", &length];
    let name = |header: &str| header.split(':').next().unwrap_or_default().to_lowercase();
    let kept = usual.iter().filter(|usual| headers.iter().all(|given| name(given) != name(usual)));
    let lines: Vec<&str> = kept.chain(headers).copied().collect();
    format!("POST /jobs HTTP/1.1\r\n{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes); // who is refused while he speaks may be cut off
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.into() }
    }

    fn refuses(&self, status: u16, words: &[&str]) {
        assert_eq!(self.status, status, "{}", self.body);
        for word in words {
            assert!(self.body.contains(word), "no {word:?} in {}", self.body);
        }
    }
}

/// Events as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut status = String::new();
        stream.read_line(&mut status).unwrap();
        if !status.starts_with("HTTP/1.1 200") {
            let mut rest = String::new();
            let _ = stream.read_to_string(&mut rest);
            panic!("no events: {status}{rest}");
        }
        Events(stream)
    }
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }
}

fn event(value: &Value) -> &str {
    value["event"].as_str().unwrap()
}

const PROMPT: &str = "two apples and a cat on a blue background";

fn encode(image: &muse::Image) -> String {
    use base64::Engine;
    let png = image.to_png(&[] as &[(&str, &str)]).unwrap();
    base64::engine::general_purpose::STANDARD.encode(png)
}

/// A job that takes many minutes, if nobody ends it: a thousand windows and more.
fn endless() -> Value {
    let margins = json!({ "left": 1200, "right": 1200, "bottom": 2400 });
    let edit = json!({ "change": { "outpaint": { "margins": margins } } });
    let image = encode(&muse::Image::filled(128, 128, [90; 3]));
    json!({ "request": { "prompt": PROMPT, "edit": edit }, "image": image })
}

fn base64(text: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_page_is_served_and_nothing_else() {
    let server = Server::start();
    for (path, kind) in
        [("/", "text/html"), ("/studio.css", "text/css"), ("/studio.js", "text/javascript")]
    {
        let answer = server.get(path);
        assert_eq!(answer.status, 200);
        for header in
            [&format!("content-type: {kind}"), "content-security-policy: default-src 'self'"]
        {
            assert!(answer.head.contains(header), "{path}: no {header} in {}", answer.head);
        }
        assert!(
            !answer.body.contains("://") || path == "/studio.js",
            "{path} loads from elsewhere"
        );
    }
    let model: Value = serde_json::from_str(&server.get("/model").body).unwrap();
    assert_eq!((&model["name"], &model["stages"]), (&json!("demo"), &json!(["base", "superres"])));
    for path in [
        "/nothing",
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/studio.js/..",
    ] {
        server.get(path).refuses(404, &["no such page"]);
    }
    server.get("/jobs").refuses(405, &["no such method"]);
}

#[test]
fn a_job_gives_the_bytes_of_the_command_line_step_by_step() {
    let server = Server::start();
    let body = json!({ "request": { "prompt": PROMPT, "seed": 7, "base": { "steps": 5 } }, "preview": true });
    let events: Vec<Value> = Events::of(server.order(&body)).collect();
    assert_eq!((event(&events[0]), &events[0]["ahead"]), ("queued", &json!(0)));
    let steps: Vec<&Value> =
        events.iter().filter(|e| event(e) == "step" && e["stage"] == "base").collect();
    assert_eq!(steps.len(), 5);
    let masked =
        |step: &Value| step["tokens"].as_array().unwrap().iter().filter(|t| t.is_null()).count();
    let mut before = 64;
    for step in &steps {
        // What was masked was drawn, and of the draws the most confident were kept.
        let compared = step["confidence"].as_array().unwrap();
        let (mut kept, mut again) = (vec![], vec![]);
        for (token, confidence) in step["tokens"].as_array().unwrap().iter().zip(compared) {
            if let Some(confidence) = confidence.as_f64() {
                if token.is_null() { &mut again } else { &mut kept }.push(confidence);
            }
        }
        assert_eq!((kept.len() + again.len(), again.len()), (before, masked(step)));
        let least = kept.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(again.iter().all(|&confidence| confidence <= least));
        assert!(masked(step) < before);
        before = masked(step);
        assert!(base64(&step["preview"]).starts_with(b"\x89PNG"));
    }
    assert_eq!(before, 0);
    let done = events.last().unwrap();
    assert_eq!(event(done), "done");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    let made = Command::new(env!("CARGO_BIN_EXE_muse"))
        .args(["generate", PROMPT, "--seed", "7", "--steps", "5", "--device", "cpu", "-o"])
        .arg(&path)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(made.status.success());
    assert!(base64(&done["image"]) == std::fs::read(path).unwrap());
}

#[test]
fn an_image_is_inpainted_where_its_mask_is_white() {
    let server = Server::start();
    let request = json!({ "prompt": PROMPT, "seed": 7, "size": "base", "base": { "steps": 2 } });
    let done = Events::of(server.order(&json!({ "request": request }))).last().unwrap();
    let picture = muse::image::Picture::decode(&base64(&done["image"]), "answer").unwrap().image;
    let mut mask = muse::Image::filled(picture.width, picture.height, [0; 3]);
    mask.place(&muse::Image::filled(16, 16, [255; 3]), 0, 0);
    let mut edit = request.clone();
    edit["edit"] = json!({ "change": { "inpaint": {} } });
    let body = json!({ "request": edit, "image": encode(&picture), "mask": encode(&mask) });
    let done = Events::of(server.order(&body)).last().unwrap();
    assert_eq!(event(&done), "done", "{done}");
    let edited = muse::image::Picture::decode(&base64(&done["image"]), "answer").unwrap().image;
    let corner = |image: &muse::Image| {
        image.cropped(muse::image::Rectangle { x: 40, y: 40, width: 24, height: 24 })
    };
    assert!(corner(&edited) == corner(&picture), "far from the mask everything stays");

    let without = json!({ "request": edit, "image": encode(&picture) });
    server.post(&[], &without.to_string()).refuses(422, &["mask", "none"]);
    let other = muse::Image::filled(8, 8, [255; 3]);
    let small = json!({ "request": edit, "image": encode(&picture), "mask": encode(&other) });
    server.post(&[], &small.to_string()).refuses(422, &["mask", "8×8"]);
    let broken = json!({ "request": edit, "image": "AAAA", "mask": encode(&mask) });
    server.post(&[], &broken.to_string()).refuses(400, &["image"]);
    let vast =
        json!({ "request": edit, "image": encode(&muse::Image::filled(4096, 1025, [0; 3])) });
    server.post(&[], &vast.to_string()).refuses(422, &["image", "4096×1025"]);
    let image = json!({ "request": request, "image": encode(&picture) });
    server.post(&[], &image.to_string()).refuses(422, &["image", "changes no image"]);
}

#[test]
fn who_is_not_this_page_is_refused() {
    let server = Server::start();
    let job = json!({ "request": { "prompt": PROMPT } }).to_string();
    let address = &server.address;
    server.post(&["Host: evil.example"], &job).refuses(403, &["evil.example", address]);
    server.post(&["Origin: http://evil.example"], &job).refuses(403, &["evil.example"]);
    server.post(&["Origin: null"], &job).refuses(403, &["null"]);
    server.post(&["Origin: http://localhost:1"], &job).refuses(403, &["localhost:1"]);
    server.post(&["Origin: http://\u{f6}.example"], &job).refuses(403, &["pages of"]);
    server.post(&["Content-Type: text/plain"], &job).refuses(415, &["application/json"]);
    for path in ["/", "/health", "/model"] {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        server.raw(text.as_bytes()).refuses(403, &["evil.example"]);
    }
    // Its own name, and the one that it was told of.
    let port = address.rsplit(':').next().unwrap();
    for host in
        [format!("localhost:{port}"), format!("studio.test:{port}"), "studio.test".to_owned()]
    {
        let text = format!(
            "GET /health HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(server.raw(text.as_bytes()).status, 200, "{host}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let server = Server::start();
    server.post(&[], "{").refuses(400, &["the body"]);
    server.post(&[], "").refuses(400, &["the body"]);
    server.post(&[], r#"{"request": {"prompt": "x"}, "more": 1}"#).refuses(400, &["more"]);
    server
        .post(&[], r#"{"request": {"prompt": "x", "steps": 3}}"#)
        .refuses(422, &["request", "steps"]);
    server.post(&[], r#"{"request": {"prompt": " "}}"#).refuses(422, &["prompt", "empty"]);
    server
        .post(&[], r#"{"request": {"prompt": "x", "base": {"steps": 0}}}"#)
        .refuses(422, &["steps"]);
    let prompt = json!({ "request": { "prompt": "x".repeat(20_000) } }).to_string();
    server.post(&[], &prompt).refuses(422, &["prompt", "20000 bytes", "at most 16384"]);
    // As large as it says, or larger than it would say.
    let large = format!("Content-Length: {}", 33 << 20);
    server.post(&[&large], "").refuses(413, &["32 MiB"]);
    let mut chunks = server.connect();
    let head = format!(
        "POST /jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    chunks.write_all(head.as_bytes()).unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let refused = (0..40).any(|_| chunks.write_all(chunk.as_bytes()).is_err());
    let answer = Answer::read(chunks);
    assert!(answer.status == 413 || refused && answer.status == 0, "{}", answer.head);
    // What only the model can refuse comes as an event.
    let size = json!({ "request": { "prompt": "x", "size": { "pixels": [48, 64] } } });
    let last = Events::of(server.order(&size)).last().unwrap();
    assert_eq!(event(&last), "failed");
    assert!(last["error"].as_str().unwrap().contains("48x64"), "{last}");
}

#[test]
fn jobs_wait_in_line_and_those_that_are_left_end() {
    let server = Server::start();
    let mut first = Events::of(server.order(&endless()));
    assert_eq!(first.next().unwrap()["ahead"], 0);
    while event(&first.next().unwrap()) != "step" {}
    let short = json!({ "request": { "prompt": PROMPT, "size": "base", "base": { "steps": 1 } } });
    let mut second = Events::of(server.order(&short));
    assert_eq!(second.next().unwrap()["ahead"], 1);
    let mut third = Events::of(server.order(&short));
    assert_eq!(third.next().unwrap()["ahead"], 2);
    // Somebody who waits goes away; meanwhile the server answers.
    drop(second);
    let health: Value = serde_json::from_str(&server.get("/health").body).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(third.next().unwrap()["ahead"], 1);
    // The line is not endless.
    let others: Vec<TcpStream> = (2..32).map(|_| server.order(&short)).collect();
    let last = others.into_iter().map(|other| {
        let mut other = Events::of(other);
        (other.next().unwrap()["ahead"].as_u64().unwrap(), other)
    });
    let others: Vec<(u64, Events)> = last.collect();
    let mut places: Vec<u64> = others.iter().map(|other| other.0).collect();
    places.sort_unstable();
    assert_eq!(places, (2..32).collect::<Vec<u64>>());
    server.post(&[], &short.to_string()).refuses(503, &["too many jobs"]);
    drop(others);
    drop(first);
    assert_eq!(third.next().unwrap()["ahead"], 0);
    assert_eq!(event(&third.last().unwrap()), "done");
}

#[test]
fn a_killed_server_leaves_nothing_behind_and_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path(), "127.0.0.1:0");
    let mut events = Events::of(server.order(&endless()));
    while event(&events.next().unwrap()) != "step" {}
    server.process.kill().unwrap(); // SIGKILL
    server.process.wait().unwrap();
    assert!(events.all(|other| event(&other) == "step"), "nothing claims to be done");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let server = Server::start_in(folder.path(), &server.address.clone());
    let short = json!({ "request": { "prompt": PROMPT, "size": "base", "base": { "steps": 1 } } });
    assert_eq!(event(&Events::of(server.order(&short)).last().unwrap()), "done");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn slow_clients_are_not_waited_for() {
    let server = Server::start();
    // The head never ends; the body never ends.
    let mut head = server.connect();
    head.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut body = server.connect();
    body.write_all(&post(&server.address, &["Content-Length: 100"], "{\"request\"")).unwrap();
    Answer::read(body).refuses(408, &["no whole body"]);
    let mut rest = Vec::new();
    let _ = head.read_to_end(&mut rest); // ended by the server, or this would time out
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.get("/health").status, 200);
}
