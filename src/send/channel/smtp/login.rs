//! AUTH (RFC 4954) with PLAIN (RFC 4616), or LOGIN where the server offers nothing better.

use std::time::Duration;

use super::{
    connection::{Connection, Fault},
    reply::Reply,
};
use crate::send::mime::base64;

/// Logs in; the reply says whether it went well.
///
/// # Errors
/// A fault of the connection, or the words that say why there was nothing to try.
pub(super) async fn login(
    connection: &mut Connection,
    user: &str,
    password: &str,
    wait: Duration,
) -> Result<Result<Reply<'static>, Fault>, &'static str> {
    let offered = connection.extensions;
    if offered.auth_plain {
        if user.contains('\0') || password.contains('\0') {
            return Err("the login has a NUL in it");
        }
        let words = base64(format!("\0{user}\0{password}").as_bytes());
        return Ok(connection.ask(&format!("AUTH PLAIN {words}"), wait).await);
    }
    if !offered.auth_login {
        return Err("the server offers neither AUTH PLAIN nor AUTH LOGIN");
    }
    let mut answer = connection.ask("AUTH LOGIN", wait).await;
    for words in [user, password] {
        match &answer {
            Ok(reply) if reply.code == 334 => answer = connection.ask(&base64(words.as_bytes()), wait).await,
            _ => break,
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, coded) in pairs {
            assert_eq!(base64(text.as_bytes()), coded);
        }
        assert_eq!(base64("\0me\0secret".as_bytes()), "AG1lAHNlY3JldA==");
    }
}
