//! Signed tenant headers, verified as the README tells upstreams to: by the very lines that stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{customer_of, route};
use crate::support::{node, peers, python};

/// RFC 8037, appendix A.
const KEY: &str = "[headers]\nsign = { key = \"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\" }\n";

/// Calls the README's `caller` with the request that stands in the file.
const PYTHON: &str = "
import json, sys
request = json.load(open(sys.argv[1]))
try:
    print(caller(request['method'], request['path'], request['headers']))
except Exception as error:
    print('refused', type(error).__name__)
";
const NODE: &str = "
import { readFileSync } from 'node:fs';
const request = JSON.parse(readFileSync(process.argv[2]));
console.log(await caller(request.method, request.path, request.headers).catch((error) => `refused ${error.name}`));
";

#[test]
fn an_upstream_verifies_the_signature_with_the_lines_of_the_readme() {
    let (upstream, gateway, customer) = customer_of(&(KEY.to_owned() + &route("all", "/", "")));
    let target = "/orders/%C3%A4?limit=2";
    assert_eq!(gateway.client().get(target, &customer.key).status, 200);
    let seen = upstream.last();
    let signature = seen.header("x-tenant-signature").expect("a signature").to_owned();
    let request = |method: &str, path: &str, signature: &str| json!({ "method": method, "path": path, "headers": { "x-tenant-signature": signature } });
    let forged = {
        let (signed, mark) = signature.rsplit_once('.').expect("three parts");
        let mark: String = mark.chars().rev().collect();
        format!("{signed}.{mark}")
    };
    let path = "/orders/%C3%A4";
    let cases = [
        (request("GET", path, &signature), Some(&customer.tenant_id)),
        (request("POST", path, &signature), None),
        (request("GET", "/orders", &signature), None),
        (request("GET", path, &forged), None),
    ];
    let files = tempfile::tempdir().expect("a directory");
    // Libraries are looked for beside the script.
    std::os::unix::fs::symlink(peers().join("node_modules"), files.path().join("node_modules"))
        .expect("a link");
    let jwks = format!("http://{}/.well-known/jwks.json", gateway.admin());
    for (language, rest, name) in [("python", PYTHON, "verify.py"), ("js", NODE, "verify.mjs")] {
        let script = files.path().join(name);
        let lines = readme(language).replace("http://gateway:9090/.well-known/jwks.json", &jwks);
        fs::write(&script, lines + rest).expect("the script is written");
        for (request, tenant) in &cases {
            let said =
                run(if language == "js" { node(&script) } else { python(&script) }, files.path(), request);
            match tenant {
                Some(tenant) => assert_eq!(&said, *tenant, "{language}"),
                None => assert!(said.starts_with("refused"), "{language}: {request}: {said}"),
            }
        }
    }
}

/// The README's lines in that language that define `caller`.
fn readme(language: &str) -> String {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    let mut blocks = blocks.filter(|block| block.contains(" caller("));
    blocks.next().expect("lines that verify").to_owned()
}

fn run(mut command: Command, directory: &Path, request: &Value) -> String {
    let file = directory.join("request.json");
    fs::write(&file, request.to_string()).expect("the request is written");
    let output = command.arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
