//! A real Kubernetes API server, with etcd; and the controller manager for what the API server leaves to others.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, GetParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::sync::OnceCell;

use super::process::{Process, Signal};
use super::{assets, free_port, listens, scratch};

/// Measured: 3 s on two idle cores. The rest is for cores that are not idle.
const START: Duration = Duration::from_secs(120);

/// An API server of its own etcd, on 127.0.0.1, with RBAC and an administrator.
pub struct ApiServer {
    folder: PathBuf,
    kubeconfig: PathBuf,
    port: u16,
    etcd_url: String,
    /// `None` while stopped. Declared before etcd, to end before it.
    server: Option<Process>,
    _etcd: Process,
    namespaces: AtomicU32,
}

/// A controller manager. It ends when this is dropped.
pub struct ControllerManager {
    _server: Process,
}

impl ApiServer {
    /// The server that the tests of this process share; each works in a [`namespace`](Self::namespace) of its own.
    pub async fn shared() -> Result<&'static ApiServer> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_try_init(ApiServer::start).await
    }

    /// A server of the test's own, to be stopped at will. About 3 s, and minutes when it has to be built first.
    pub async fn start() -> Result<ApiServer> {
        let folder = scratch::folder("kube")?;
        let port = free_port();
        let kubeconfig = write_access(&folder, port)?;
        let (etcd, etcd_url) = start_etcd(&folder).await?;
        let namespaces = AtomicU32::new(1);
        let mut api = ApiServer { folder, kubeconfig, port, etcd_url, server: None, _etcd: etcd, namespaces };
        api.restart().await?;
        Ok(api)
    }

    /// The administrator's way in, for `kubectl --kubeconfig` and for a controller's `KUBECONFIG`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new client of the administrator. Not shared: its connections belong to the runtime of the test that asks.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Makes an empty namespace whose name begins with `test`.
    pub async fn namespace(&self, test: &str) -> Result<String> {
        let name = format!("{test}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(self.client().await?).create(&PostParams::default(), &namespace).await?;
        Ok(name)
    }

    /// Starts what collects garbage (the dependants of deleted owners) and empties deleted namespaces.
    ///
    /// Apply CustomResourceDefinitions first: the collector looks for new kinds only every 30 s.
    pub async fn start_controller_manager(&self) -> Result<ControllerManager> {
        let program = assets::program("kube-controller-manager").await?;
        let port = free_port();
        let mut command = self.controller_manager(&program, port);
        let server = Process::start(&mut command, &self.folder.join("controller-manager.log"), Signal::Kill)?;
        server.ready("the controller manager", START, || listens(port)).await?;
        Ok(ControllerManager { _server: server })
    }

    /// Ends the API server as a crash would. etcd keeps its data.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts the API server again, on the same port and data, after stopping it if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        let program = assets::program("kube-apiserver").await?;
        let server = Process::start(&mut self.apiserver(&program), &self.folder.join("apiserver.log"), Signal::Kill)?;
        server.ready("the API server", START, || self.answers()).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Makes the API server stand still: it accepts connections and answers nothing.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.signal(Signal::Stop)
    }

    /// Ends a pause; returns when the server answers again.
    pub async fn resume(&mut self) -> Result<()> {
        self.running()?.signal(Signal::Continue)?;
        self.running()?.ready("the API server", START, || self.answers()).await
    }

    fn running(&self) -> Result<&Process> {
        self.server.as_ref().context("the API server is stopped")
    }

    /// Succeeds once every part of the server says it is ready.
    async fn answers(&self) -> Result<()> {
        let request = kube::core::Request::new("").get("readyz", &GetParams::default())?;
        self.client().await?.request_text(request).await?;
        Ok(())
    }

    fn apiserver(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args([
            "--bind-address=127.0.0.1",
            "--authorization-mode=RBAC",
            // There is no controller to make the accounts that it insists on.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            // It must not offer its address to a network that it does not listen on.
            "--endpoint-reconciler-type=none",
        ]);
        command.arg(format!("--secure-port={}", self.port));
        command.arg(format!("--etcd-servers={}", self.etcd_url));
        set_path(&mut command, "--cert-dir", &self.folder);
        set_path(&mut command, "--token-auth-file", &self.folder.join("tokens.csv"));
        set_path(&mut command, "--service-account-key-file", &self.folder.join("accounts.pem"));
        set_path(&mut command, "--service-account-signing-key-file", &self.folder.join("accounts.pem"));
        command
    }

    fn controller_manager(&self, program: &Path, port: u16) -> Command {
        let mut command = Command::new(program);
        command.args([
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--controllers=garbage-collector-controller,namespace-controller",
        ]);
        command.arg(format!("--secure-port={port}"));
        set_path(&mut command, "--kubeconfig", &self.kubeconfig);
        set_path(&mut command, "--authentication-kubeconfig", &self.kubeconfig);
        set_path(&mut command, "--authorization-kubeconfig", &self.kubeconfig);
        command
    }
}

/// Writes what lets an administrator in: the server's list of tokens, and the kubeconfig that holds the token.
fn write_access(folder: &Path, port: u16) -> Result<PathBuf> {
    let token = hex(&random::<16>()?);
    fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
    fs::write(folder.join("accounts.pem"), account_key()?)?;
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        // The server writes it when it first starts: its certificate, followed by the authority that signed it.
        "certificate-authority": folder.join("apiserver.crt"),
    });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    });
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string())?;
    Ok(path)
}

/// A private key for the tokens of service accounts, which the API server demands even where nobody has one.
///
/// Any 32 bytes are a private key of P-256, and in SEC 1's form (RFC 5915) the public half may be left out; so neither
/// a library nor `openssl` is needed.
fn account_key() -> Result<String> {
    const BEFORE: &[u8] = b"\x30\x31\x02\x01\x01\x04\x20";
    const CURVE: &[u8] = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let key = [BEFORE, &random::<32>()?, CURVE].concat();
    let base64 = serde_json::to_value(ByteString(key))?;
    let base64 = base64.as_str().context("Kubernetes writes bytes as base64")?;
    Ok(format!("-----BEGIN EC PRIVATE KEY-----\n{base64}\n-----END EC PRIVATE KEY-----\n"))
}

async fn start_etcd(folder: &Path) -> Result<(Process, String)> {
    let program = assets::program("etcd").await?;
    let port = free_port();
    let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new(program);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    // A crash of the machine may lose everything: it is a test's.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    set_path(&mut command, "--data-dir", &folder.join("etcd"));
    let etcd = Process::start(&mut command, &folder.join("etcd.log"), Signal::Kill)?;
    etcd.ready("etcd", START, || listens(port)).await?;
    Ok((etcd, clients))
}

fn set_path(command: &mut Command, flag: &str, path: &Path) {
    let mut argument = std::ffi::OsString::from(flag);
    argument.push("=");
    argument.push(path);
    command.arg(argument);
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
