//! S3 as servers speak it that are not Amazon's, and proxies in front of them.
//!
//! [`s3`] opens a bucket through a connector that stands between `object_store` and the network.
//! It waits as long as a server asks, repeats what is worth repeating, overlooks keys that no path can
//! name, and turns every other answer into a [`Refusal`]: status, code and message once, and what to do.
//! [`Cause`] says in the same way what any error of `object_store` comes down to. Other clients of servers find here how
//! long to wait ([`asked_wait`]) and what lies inside of this machine's network ([`leads_inside`], [`Outside`]).

mod cause;
mod connector;
mod inside;
mod listing;
mod refusal;
mod wait;

use std::time::Duration;

use connector::Connector;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientConfigKey, RetryConfig};
use reqwest::Url;

pub use cause::Cause;
pub use inside::{Outside, leads_inside};
pub use refusal::Refusal;
pub use wait::{PATIENCE, asked_wait};

/// A server that does not answer is tried again for so long.
const SILENCE: Duration = Duration::from_secs(30);

/// A bucket, reached as `settings` say: usually [`AmazonS3Builder::from_env`].
///
/// Addresses are in path style. With `AWS_VIRTUAL_HOSTED_STYLE_REQUEST=true` the bucket's name stands
/// in front of the endpoint's host, whether the endpoint has it already or not.
///
/// # Errors
/// A setting is missing or malformed.
pub fn s3(settings: AmazonS3Builder, bucket: &str) -> Result<AmazonS3, Cause> {
    // one request for each object: not every server has the one for many
    let mut settings = settings.with_bucket_name(bucket).with_disable_bulk_delete(true);
    settings = settings.with_retry(RetryConfig { retry_timeout: SILENCE, ..RetryConfig::default() });
    let value = |key: AmazonS3ConfigKey| settings.get_config_value(&key);
    let is_on = |key| value(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let client = AmazonS3ConfigKey::Client;
    let connector = Connector {
        proxy: value(client(ClientConfigKey::ProxyUrl)),
        accept_invalid_certificates: is_on(client(ClientConfigKey::AllowInvalidCertificates)),
    };
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
    if let Some(endpoint) = endpoint {
        let mut url = Url::parse(&endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let url = url.as_mut().ok_or_else(|| {
            Cause::said(format!(
                "`{endpoint}` in AWS_ENDPOINT_URL is not an address; expected `https://host`"
            ))
        })?;
        if url.scheme() == "http" && !is_on(client(ClientConfigKey::AllowHttp)) {
            let reason = format!("`{endpoint}` is not encrypted; set AWS_ALLOW_HTTP=true to use it");
            return Err(Cause::said(reason));
        }
        if is_on(AmazonS3ConfigKey::VirtualHostedStyleRequest) {
            let host = url.host_str().unwrap_or_default();
            if !host.starts_with(&format!("{bucket}.")) {
                let host = format!("{bucket}.{host}");
                // an address in numbers stays as it is
                let _ = url.set_host(Some(&host));
            }
            let endpoint = url.as_str().trim_end_matches('/');
            settings = settings.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
    }
    settings.with_http_connector(connector).build().map_err(Cause::from)
}
