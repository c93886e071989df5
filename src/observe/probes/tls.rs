//! TLS to pods: any certificate, as the kubelet's probes, or a valid one.
//!
//! Role: two client configurations and a handshake. Inputs: certificate authorities, a connection. Outputs: a stream, or
//! why there is none. Nothing secret is ever sent, so accepting any certificate gives nothing away. Must never import:
//! other rooms than `domain`.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::cause;
use super::{Deadline, Stop};
use crate::domain::probe::{Http, Issue, Stage};

/// Both ways to look at a certificate.
pub(super) struct Tls {
    any: TlsConnector,
    valid: TlsConnector,
}

/// The certificate authorities of the system; none in a container without a bundle.
pub(super) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

impl Tls {
    pub(super) fn new(roots: RootCertStore) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let any = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        let valid = builder()?.with_root_certificates(roots).with_no_client_auth();
        let connector = |mut config: ClientConfig| {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            // Every ask is a first one: a resumed session would not show the certificate.
            config.resumption = rustls::client::Resumption::disabled();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self { any: connector(any), valid: connector(valid) })
    }

    /// The handshake; says also whether HTTP/2 was agreed upon.
    pub(super) async fn handshake(
        &self,
        http: &Http,
        ip: IpAddr,
        stream: TcpStream,
        deadline: Deadline,
    ) -> Result<(TlsStream<TcpStream>, bool), Stop> {
        let name = match &http.server_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| Stop::failed(Issue::Tls, "cannot be asked by this serverName"))?,
            // No name is sent for an address.
            None => ServerName::from(ip),
        };
        let connector = if http.verify { &self.valid } else { &self.any };
        let stream =
            deadline.on(Stage::Tls, connector.connect(name, stream)).await?.map_err(|error| refused(&error))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, h2))
    }
}

fn refused(error: &std::io::Error) -> Stop {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            Stop::failed(Issue::Certificate, "shows a certificate of an unknown authority")
        }
        Some(Error::InvalidCertificate(problem)) => {
            Stop::failed(Issue::Certificate, format!("shows a certificate that is not accepted: {problem}"))
        }
        Some(Error::InvalidMessage(_)) => Stop::failed(Issue::Tls, "does not speak TLS on this port"),
        Some(other) => Stop::failed(Issue::Tls, format!("fails in the TLS handshake: {}", cause(other))),
        None => Stop::failed(Issue::Tls, format!("ends the TLS handshake: {}", cause(error))),
    }
}

/// Looks at no name and no authority, but still at the signatures of the handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
