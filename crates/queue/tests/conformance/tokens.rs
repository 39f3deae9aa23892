//! Tokens: secrets are shown once and stored as hashes; scope, expiry and revocation are kept to.

use chrono::TimeDelta;
use dpg_queue::{Error, NewToken, Refusal, Scope};
use sqlx::{AnyConnection, Connection, Row};

use crate::{Store, on_both};

on_both! {
    a_secret_opens_and_is_not_stored,
    wrong_expired_and_revoked_are_refused,
    scopes_allow_what_they_say,
}

fn new(name: &str, scopes: &[Scope]) -> NewToken {
    NewToken { name: name.into(), scopes: scopes.to_vec(), ..NewToken::default() }
}

async fn a_secret_opens_and_is_not_stored(store: Store) {
    let queue = store.open().await;
    let (token, secret) = queue.create_token(&new("ci", &[Scope::Read, Scope::Submit])).await.unwrap();
    assert!(secret.starts_with("dpg_") && secret.len() > 64);
    assert_eq!(store.open().await.authenticate(&secret).await.unwrap(), token);
    assert_eq!((token.name.as_str(), &token.scopes[..]), ("ci", &[Scope::Read, Scope::Submit][..]));

    let (_, other) = queue.create_token(&new("other", &[Scope::Read])).await.unwrap();
    assert_ne!(other.rsplit('_').next(), secret.rsplit('_').next());
    let mut connection = AnyConnection::connect(&store.location).await.unwrap();
    let rows = sqlx::query("select * from tokens").fetch_all(&mut connection).await.unwrap();
    let random = secret.rsplit('_').next().unwrap();
    let hash = {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(&secret))
    };
    let mut hashes = 0;
    for row in &rows {
        for column in ["id", "name", "hash", "scopes"] {
            let value: String = row.get(column);
            assert!(!value.contains(random), "{column}");
            hashes += usize::from(value == hash);
        }
    }
    assert_eq!((rows.len(), hashes), (2, 1), "the hash, and nothing else of the secret");
    let listed = serde_json::to_string(&queue.tokens().await.unwrap()).unwrap();
    assert!(!listed.contains(random) && !listed.contains(&hash));
}

async fn wrong_expired_and_revoked_are_refused(store: Store) {
    let queue = store.open().await;
    let refusal = async |secret: &str| match queue.authenticate(secret).await {
        Err(Error::TokenRefused { reason }) => Some(reason),
        Ok(_) => None,
        Err(error) => panic!("{error:?}"),
    };
    let (token, secret) = queue.create_token(&new("ci", &[Scope::Read])).await.unwrap();
    let mut wrong = vec![String::new(), "dpg_".into(), "dpg__".into(), "Bearer x".into()];
    wrong.push(secret.to_uppercase());
    wrong.push(format!("{secret}0"));
    wrong.push(secret[..secret.len() - 1].into());
    let last = if secret.ends_with('0') { '1' } else { '0' };
    wrong.push(format!("{}{last}", &secret[..secret.len() - 1]));
    wrong.push(secret.replace(&token.id.simple().to_string(), &uuid::Uuid::nil().simple().to_string()));
    // The id in its other spelling opens nothing: the hash is of the secret as it was given out.
    wrong.push(secret.replace(&token.id.simple().to_string(), &token.id.to_string()));
    for wrong in wrong {
        assert_eq!(refusal(&wrong).await, Some(Refusal::Unknown), "{wrong}");
    }
    assert_eq!(refusal(&secret).await, None);

    let now = queue.now().await.unwrap();
    for (name, hours, expected) in [("past", -1, Some(Refusal::Expired)), ("future", 1, None)] {
        let expires = Some(now + TimeDelta::hours(hours));
        let (_, secret) =
            queue.create_token(&NewToken { expires, ..new(name, &[Scope::Read]) }).await.unwrap();
        assert_eq!(refusal(&secret).await, expected, "{name}");
    }

    let taken = queue.create_token(&new("ci", &[Scope::Admin])).await;
    assert!(matches!(taken, Err(Error::TokenNameTaken { name }) if name == "ci"));
    let revoked = queue.revoke_token("ci").await.unwrap();
    assert!(revoked.revoked.is_some());
    assert_eq!(refusal(&secret).await, Some(Refusal::Revoked));
    assert!(matches!(queue.revoke_token("ci").await, Err(Error::NotFound { what: "token", .. })));
    let (second, _) = queue.create_token(&new("ci", &[Scope::Read])).await.unwrap();
    let again = queue.revoke_token(&token.id.to_string()).await.unwrap();
    assert_eq!(again, revoked, "revoking again, by id, changes nothing");
    let listed = queue.tokens().await.unwrap();
    assert_eq!(
        listed.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(),
        ["ci", "past", "future", "ci"]
    );
    assert_eq!((listed[3].id, listed[3].revoked), (second.id, None), "the new one of the name is untouched");
}

async fn scopes_allow_what_they_say(store: Store) {
    let queue = store.open().await;
    for own in Scope::ALL {
        let (_, secret) = queue.create_token(&new(own.as_str(), &[*own])).await.unwrap();
        let token = queue.authenticate(&secret).await.unwrap();
        for asked in Scope::ALL {
            assert_eq!(token.allows(*asked), own == asked || *own == Scope::Admin, "{own} {asked}");
        }
    }
    let (none, _) = queue.create_token(&new("none", &[])).await.unwrap();
    assert!(Scope::ALL.iter().all(|scope| !none.allows(*scope)));
}
