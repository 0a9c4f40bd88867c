//! The resident set of servers in other languages closes to the page, after work and after it is over: C++ (aria2), Rust
//! (ruff), JavaScript (node). Those in C and Python are in `rss`, Go in `go_heap`.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::programs::{Target, send};
use crate::recorder::Recorder;
use crate::rss::{close_and_compare, tool};
use crate::stage::Stage;

/// A client that starts a server, prints "ready" and its PID, works after a line on stdin, and prints "done".
fn check(client: &mut Command) {
    let stage = Stage::enter("servers");
    let mut client = Target::run(client.current_dir(stage.path()));
    let ready = client.await_line("ready ");
    let server: u32 = ready.last().unwrap().trim_start_matches("ready ").parse().unwrap();
    for round in 0..2 {
        let recorder = Recorder::of_pid(&stage.join(&format!("traces{round}")), server);
        client.act();
        close_and_compare(recorder, &[server]);
        send(server, Signal::CONT);
    }
}

fn python(script: &str) -> Command {
    let mut python = Command::new(tool("python3", "python3"));
    python.args(["-c", script]);
    python
}

#[test]
fn of_a_download_server_in_cpp() {
    const CLIENT: &str = r"
import socket, subprocess, sys, time, xmlrpc.client
with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
server = subprocess.Popen([sys.argv[1], '--enable-rpc', f'--rpc-listen-port={port}', '--quiet', '--no-conf'],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
rpc = xmlrpc.client.ServerProxy(f'http://127.0.0.1:{port}/rpc').aria2
while True:
    try:
        rpc.getVersion()
        break
    except OSError:
        time.sleep(0.02)
print('ready', server.pid, flush=True)
while sys.stdin.readline():
    ids = [rpc.addUri([f'http://127.0.0.1:9/{n}'], {'pause': 'true'}) for n in range(500)]
    assert len(rpc.tellWaiting(0, 1000)) == 500
    for one in ids:
        rpc.forceRemove(one)
    rpc.purgeDownloadResult()
    print('done', flush=True)
server.kill()
";
    check(python(CLIENT).arg(tool("aria2c", "aria2")));
}

#[test]
fn of_a_language_server_in_rust() {
    const CLIENT: &str = r#"
import json, subprocess, sys
server = subprocess.Popen([sys.argv[1], 'server'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
def send(method, params, id=None):
    message = {'jsonrpc': '2.0', 'method': method, 'params': params} | ({} if id is None else {'id': id})
    text = json.dumps(message).encode()
    server.stdin.write(b'Content-Length: %d\r\n\r\n%s' % (len(text), text))
    server.stdin.flush()
def ask(method, params, id):
    send(method, params, id)
    while True:
        length = int(server.stdout.readline().split()[1])
        while server.stdout.readline().strip():
            pass
        answer = json.loads(server.stdout.read(length))
        if answer.get('id') == id and 'method' not in answer:
            return answer['result']
ask('initialize', {'processId': None, 'rootUri': None, 'capabilities': {}}, 1)
send('initialized', {})
print('ready', server.pid, flush=True)
text = ''.join(f'def f{n}(a, b = [{n}] * {n % 40}):\n    import os\n    return a + undefined_{n}\n' for n in range(8000))
uri, id = 'file:///nowhere/some.py', 1
while sys.stdin.readline():
    id += 1
    send('textDocument/didOpen', {'textDocument': {'uri': uri, 'languageId': 'python', 'version': id, 'text': text}})
    found = ask('textDocument/diagnostic', {'textDocument': {'uri': uri}}, id)
    assert len(found['items']) >= 8000, len(found['items'])
    send('textDocument/didClose', {'textDocument': {'uri': uri}})
    print('done', flush=True)
server.kill()
"#;
    check(python(CLIENT).arg(ruff()));
}

#[test]
fn of_a_web_server_in_javascript() {
    const SERVER: &str = r"
const http = require('http');
const kept = new Map();
http.createServer((request, response) => {
  if (request.url === '/clear') kept.clear();
  else kept.set(request.url, Array.from({length: 2000}, (_, n) => ({n, text: request.url + n})));
  response.end(`${kept.size}\n`);
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
";
    const CLIENT: &str = r"
import subprocess, sys, urllib.request
server = subprocess.Popen([sys.argv[1], '-e', sys.argv[2]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
port = int(server.stdout.readline())
get = lambda what: int(urllib.request.urlopen(f'http://127.0.0.1:{port}/{what}').read())
print('ready', server.pid, flush=True)
while sys.stdin.readline():
    assert [get(str(n)) for n in range(100)] == list(range(1, 101))
    assert get('clear') == 0
    for n in range(50):
        assert get('again') == 1
    assert get('clear') == 0
    print('done', flush=True)
server.kill()
";
    check(python(CLIENT).arg(tool("node", "nodejs")).arg(SERVER));
}

/// Where `cargo xtask test` puts it.
fn ruff() -> PathBuf {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("python");
    let found = std::fs::read_dir(&tools).ok().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found =
        found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ruff-")));
    found.next().map(|path| path.join("bin/ruff")).expect("ruff is missing: `cargo xtask test` installs it")
}
