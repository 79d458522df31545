//! A server of one repository, as the hub answers: the list of files of a revision, small files by way of a
//! redirection within the server, large ones by way of one to storage, and ranges of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

/// The commit of `main`.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The repository `made/up`. Its thread ends with the test program.
pub struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Files whose next answer ends after so many bytes.
    cuts: BTreeMap<String, u64>,
    /// Ranges of files that were asked for.
    log: Vec<(String, String)>,
}

impl Hub {
    pub fn serve(folder: PathBuf) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let hub = Hub { address: address.clone(), state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &address, &folder, &state);
            }
        });
        hub
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// The next time more than one byte of `file` is asked for, the connection ends after `bytes`.
    pub fn cut(&self, file: &str, bytes: u64) {
        self.state.lock().unwrap().cuts.insert(file.into(), bytes);
    }

    /// The files and ranges asked for since the last time, but for redirections.
    pub fn take_log(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

/// Names of all files below `folder`, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => names.extend(files(&entry.path()).into_iter().map(|f| format!("{name}/{f}"))),
            false => names.push(name),
        }
    }
    names.sort();
    names
}

fn answer(mut stream: TcpStream, address: &str, folder: &Path, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().and_then(Result::ok).unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = String::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            range = value.into();
        }
    }
    let mut reply = |status: &str, headers: &[String], body: &[u8]| {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        // A client that has gone is its own affair.
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .and_then(|()| stream.write_all(body))
            .ok();
    };
    let length = |n: usize| format!("Content-Length: {n}");
    let known = [
        format!("/api/models/made/up/revision/{COMMIT}"),
        "/api/models/made/up/revision/main".into(),
    ];
    if known.contains(&path) {
        let siblings: Vec<_> =
            files(folder).iter().map(|f| serde_json::json!({ "rfilename": f })).collect();
        let info = serde_json::json!({ "id": "made/up", "sha": COMMIT, "siblings": siblings });
        let info = info.to_string();
        return reply("200 OK", &[length(info.len())], info.as_bytes());
    }
    let resolve = format!("/made/up/resolve/{COMMIT}/");
    if let Some(file) = path.strip_prefix(&resolve) {
        let large = file.ends_with(".safetensors");
        let (start, etag) = match large {
            true => (address, "X-Linked-Etag"),
            false => ("", "ETag"),
        };
        let headers = [
            format!("Location: {start}/files/{file}"),
            format!("{etag}: \"{}\"", etag_of(file)),
            format!("X-Repo-Commit: {COMMIT}"),
            length(0),
        ];
        return reply("302 Found", &headers, &[]);
    }
    let Some(file) = path.strip_prefix("/files/") else {
        let status = match path.contains("made/up") {
            true => "404 Not Found",
            false => "401 Unauthorized", // so that nobody learns which private ones there are
        };
        return reply(status, &[length(0)], &[]);
    };
    let bytes = fs::read(folder.join(file)).unwrap();
    let mut state = state.lock().unwrap();
    state.log.push((file.into(), range.clone()));
    let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).unwrap();
    let from: usize = from.parse().unwrap();
    let end = to.parse().map_or(bytes.len(), |last: usize| last + 1);
    if from >= bytes.len() {
        return reply("416 Range Not Satisfiable", &[length(0)], &[]);
    }
    let body = &bytes[from..end];
    let headers = [
        format!("Content-Range: bytes {from}-{}/{}", end - 1, bytes.len()),
        format!("ETag: \"{}\"", etag_of(file)),
        format!("X-Repo-Commit: {COMMIT}"),
        length(body.len()),
    ];
    let cut = if body.len() > 1 { state.cuts.remove(file) } else { None };
    let sent = cut.map_or(body.len(), |cut| cut as usize);
    reply("206 Partial Content", &headers, &body[..sent]);
}

/// Some 40 hexadecimal digits of a file's own.
fn etag_of(file: &str) -> String {
    blake3::hash(file.as_bytes()).to_hex()[..40].into()
}
