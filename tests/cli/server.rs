//! An API server of a few lines, on a port: it answers as a test says, and remembers what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
}

impl Request {
    /// Method and path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }
}

/// What is answered.
pub enum Reply {
    Json(u16, Value),
    /// A connection that ends without a word.
    Nothing,
    /// A watch that stays open and says nothing.
    Silence,
}

pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers with what the closure says; it gets the request, and how many of the same line came before.
    pub fn new(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (log.clone(), answer.clone());
                thread::spawn(move || serve(&stream, &log, &*answer));
            }
        });
        Self { address, asked }
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// Writes that came in.
    pub fn writes(&self) -> Vec<Request> {
        self.asked().into_iter().filter(|request| request.method != "GET").collect()
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync)) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap_or_default();
    let mut parts = first.split(' ');
    let method = parts.next().unwrap_or_default().to_owned();
    let (path, query) = parts.next().unwrap_or_default().split_once('?').map_or_else(
        || (first.split(' ').nth(1).unwrap_or_default().to_owned(), String::new()),
        |(path, query)| (path.to_owned(), query.to_owned()),
    );
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 || line.trim().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Request { method, path, query, body: serde_json::from_slice(&body).unwrap_or(Value::Null) };
    let before = {
        let mut log = log.lock().unwrap();
        let of = |one: &&Request| one.line() == request.line() && one.is_watch() == request.is_watch();
        let before = log.iter().filter(of).count();
        log.push(request.clone());
        before
    };
    match answer(&request, before) {
        Reply::Json(code, value) => {
            let text = value.to_string();
            let head = format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
            let _ = write!(&*stream, "{head}content-length: {}\r\n\r\n{text}", text.len());
        }
        Reply::Nothing => {}
        Reply::Silence => {
            let _ = write!(&*stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
            thread::sleep(Duration::from_secs(60));
        }
    }
}

/// An error as an API server words it.
pub fn status(code: u16, kind: &str, message: &str) -> Reply {
    let details = json!({"kind": kind, "name": "x"});
    let reason = if code == 404 { "NotFound" } else { "Other" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
        "code": code, "details": details});
    Reply::Json(code, status)
}

/// A command that talks to a server.
pub fn command(server: &str, arguments: &[&str]) -> (Command, tempfile::NamedTempFile) {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "staging",
        "contexts": [{"name": "staging", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "very-secret-token"}}],
    });
    std::fs::write(config.path(), text.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    command.env_clear().env("KUBECONFIG", config.path()).args(arguments).stdin(Stdio::null());
    (command, config)
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn run(server: &str, arguments: &[&str]) -> Ran {
    let (mut command, _config) = command(server, arguments);
    let ran = command.output().unwrap();
    Ran {
        code: ran.status.code(),
        out: String::from_utf8(ran.stdout).unwrap(),
        err: String::from_utf8(ran.stderr).unwrap(),
    }
}

impl Ran {
    /// Ended so, and said that on standard error.
    #[track_caller]
    pub fn ended(&self, code: i32, said: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(said), "{said:?} is not in {self:?}");
        assert!(!self.err.contains("very-secret-token") && !self.out.contains("very-secret-token"), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}
