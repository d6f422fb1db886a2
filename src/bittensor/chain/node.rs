//! A node of the chain: where it is, and a view of the chain at its newest finalized block.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use subxt::OnlineClient;
use subxt::backend::LegacyBackend;
use subxt::ext::jsonrpsee::client_transport::ws::Url;

use super::config::Subtensor;
use super::error::{ChainError, Fault};
use super::limits::MAX_LAG;
use super::line;
use super::view::{View, explain};

/// A node that is asked over a websocket. It remembers the runtime's description of itself from one
/// connection to the next.
#[derive(Clone, Debug)]
pub struct Node {
    url: Url,
    /// The address without what may be secret in it.
    name: Arc<str>,
    config: Subtensor,
}

impl Node {
    /// Takes the address of a node, such as `wss://entrypoint-finney.opentensor.ai:443`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// What is not the address of a websocket.
    pub fn new(address: &str) -> Result<Self, ChainError> {
        let wrong = |why: &str| {
            ChainError::new(Fault::Address, format!("not the address of a node: {why}"))
        };
        let url = Url::parse(address.trim()).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(wrong(&format!("it begins with {}:", url.scheme())));
        }
        let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
        let port = url.port_or_known_default().unwrap_or_default();
        let name = format!("{}://{host}:{port}", url.scheme()).into();
        Ok(Self { url, name, config: Subtensor::default() })
    }

    /// The address, without the user, the path and the query, which may hold secrets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what the node says can be changed on the way: it is neither encrypted nor does it
    /// stay on this machine.
    pub fn is_exposed(&self) -> bool {
        let is_here = match self.url.host() {
            Some(host) => match host.to_string().as_str() {
                "localhost" | "[::1]" => true,
                name => name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
            },
            None => false,
        };
        self.url.scheme() != "wss" && !is_here
    }

    /// Connects and looks at the newest finalized block, which must not be old.
    pub(super) async fn view(&self, within: Duration) -> Result<View, ChainError> {
        let (rpc, troubles) = line::connect(self.url.clone(), &self.name, within).await?;
        let backend = Arc::new(LegacyBackend::<Subtensor>::builder().build(rpc));
        let client = OnlineClient::from_backend_with_config(self.config.clone(), backend)
            .await
            .map_err(|error| explain(&self.name, &troubles, &error))?;
        let at = client
            .at_current_block()
            .await
            .map_err(|error| explain(&self.name, &troubles, &error))?;
        let view = View::new(at, Arc::clone(&self.name), troubles);
        match lag(view.time().await?, SystemTime::now()) {
            lag if lag > MAX_LAG => Err(ChainError::behind(&self.name, lag)),
            _ => Ok(view),
        }
    }

    /// Does something with the node, or gives up.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, ChainError>>,
    ) -> Result<T, ChainError> {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(ChainError::slow(&self.name, limit)),
        }
    }
}

/// How old the block is; nothing if it is of the future, which is our clock's fault or nobody's.
fn lag(block: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(block).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_websocket_is_the_address_of_a_node() {
        for address in ["", "finney", "http://node:9944", "wss://", "ws:/x", "wss:node"] {
            match Node::new(address) {
                Err(error) => assert_eq!(error.fault, Fault::Address, "{address}"),
                Ok(node) => assert!(address.starts_with("ws"), "{address} became {}", node.name()),
            }
        }
        assert!(Node::new("http://node:9944").is_err());
        assert!(Node::new("wss://").is_err());
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        let node = Node::new("wss://user:word@node.example/v1/key?token=secret").unwrap();
        assert_eq!(node.name(), "wss://node.example:443");
    }

    #[test]
    fn it_is_known_whether_others_can_change_what_a_node_says() {
        let exposed = |address| Node::new(address).unwrap().is_exposed();
        for safe in ["wss://node:443", "ws://127.0.0.1:9944", "ws://localhost:9944", "ws://[::1]:1"]
        {
            assert!(!exposed(safe), "{safe}");
        }
        for open in ["ws://node:9944", "ws://10.0.0.5:9944", "ws://127.0.0.1.example:9944"] {
            assert!(exposed(open), "{open}");
        }
    }

    #[test]
    fn a_block_of_the_future_is_not_old() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(lag(now - Duration::from_secs(7), now), Duration::from_secs(7));
        assert_eq!(lag(now + Duration::from_secs(7), now), Duration::ZERO);
    }
}
