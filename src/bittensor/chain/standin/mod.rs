//! A node for tests: a real websocket, a recorded runtime, and a chain that consists of what a test
//! puts into it. It can misbehave.

mod state;
mod wire;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

pub(crate) use state::{
    Chain, Fate, GENESIS, HEAD, HEAD_NUMBER, RECORDED, VERSIONS, columns, without_length,
};

/// What is wrong with the node.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mischief {
    /// Nothing.
    #[default]
    None,
    /// It cuts the connection instead of answering this method.
    Cuts(&'static str),
    /// It never answers this method.
    Hangs(&'static str),
    /// It answers this method with an error.
    Refuses(&'static str),
    /// It leaves out the last bytes of what this method answers.
    Truncates(&'static str),
    /// It answers this method with more than anybody should take.
    Floods(&'static str),
}

/// A node for tests. It ends with the process.
pub(crate) struct StandIn {
    /// Its address.
    pub(crate) address: String,
    seen: Arc<Mutex<Seen>>,
}

/// What the node has seen.
#[derive(Default)]
struct Seen {
    methods: Vec<String>,
    blocks: Vec<Json>,
    submitted: Vec<Vec<u8>>,
}

impl StandIn {
    /// Starts one.
    pub(crate) fn start(chain: Chain, mischief: Mischief) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Server { chain, mischief, seen: Arc::clone(&seen) };
        let address = wire::start(Arc::new(Mutex::new(server)));
        Self { address, seen }
    }

    /// The methods that were called; of runtime calls, which.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.seen.lock().methods.clone()
    }

    /// The blocks at which state was asked for.
    pub(crate) fn blocks(&self) -> Vec<Json> {
        self.seen.lock().blocks.clone()
    }

    /// How often a method was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.methods().iter().filter(|seen| *seen == method).count()
    }

    /// The transactions that were submitted.
    pub(crate) fn submitted(&self) -> Vec<Vec<u8>> {
        self.seen.lock().submitted.clone()
    }
}

struct Server {
    chain: Chain,
    mischief: Mischief,
    seen: Arc<Mutex<Seen>>,
}

/// What the server does about a request.
enum Reaction {
    Says(Vec<Json>),
    Cuts,
    Hangs,
}

impl Server {
    fn react(&mut self, request: &Json) -> Reaction {
        let (id, params) = (&request["id"], &request["params"]);
        let method = match request["method"].as_str().unwrap() {
            "state_call" => params[0].as_str().unwrap(),
            method => method,
        };
        self.seen.lock().methods.push(method.to_owned());
        if request["method"].as_str().unwrap().starts_with("state_") {
            let block = params.as_array().unwrap().last().unwrap();
            self.seen.lock().blocks.push(block.clone());
        }
        let answer = |result: Json| json!({ "jsonrpc": "2.0", "id": id, "result": result });
        let fault = |code: i32, message: &str, data: Json| {
            let error = json!({ "code": code, "message": message, "data": data });
            Reaction::Says(vec![json!({ "jsonrpc": "2.0", "id": id, "error": error })])
        };
        match self.mischief {
            Mischief::Cuts(name) if name == method => return Reaction::Cuts,
            Mischief::Hangs(name) if name == method => return Reaction::Hangs,
            Mischief::Refuses(name) if name == method => {
                return fault(-32601, "Method not found", Json::Null);
            }
            Mischief::Floods(name) if name == method => {
                return Reaction::Says(vec![answer(json!("0x00".repeat(4 << 20)))]);
            }
            _ => {}
        }
        if method == "author_submitAndWatchExtrinsic" {
            let bytes = unhex(params[0].as_str().unwrap());
            self.seen.lock().submitted.push(bytes.clone());
            return match self.chain.submit(bytes) {
                Err(why) => fault(1010, "Invalid Transaction", json!(why)),
                Ok(updates) => {
                    let update = |result: Json| {
                        let params = json!({ "subscription": "watch", "result": result });
                        let method = "author_extrinsicUpdate";
                        json!({ "jsonrpc": "2.0", "method": method, "params": params })
                    };
                    let says = std::iter::once(answer(json!("watch")));
                    Reaction::Says(says.chain(updates.into_iter().map(update)).collect())
                }
            };
        }
        match self.chain.answer(request["method"].as_str().unwrap(), params) {
            Some(mut result) => {
                if matches!(self.mischief, Mischief::Truncates(name) if name == method) {
                    let text = result.as_str().unwrap();
                    result = json!(text[..text.len() - 6]);
                }
                Reaction::Says(vec![answer(result)])
            }
            None => fault(4003, "Client error: Execution failed", json!("no such export")),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.strip_prefix("0x").unwrap()).unwrap()
}
