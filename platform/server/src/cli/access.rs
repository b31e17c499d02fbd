//! Who may use which platform: `raas login`, `raas keys`, `raas tenants`.

use std::io::BufRead;

use http::Method;
use serde_json::{Value, json};

use super::arguments::{KeysCommand, TenantsCommand};
use super::client::{Call, Client, encode};
use super::context::{Context, write_context};
use super::failure::{Failure, Outcome};
use super::format::{list, moment, text};
use super::functions::done;
use super::screen::Screen;
use super::table::Table;

/// Keeps a platform and a key for the commands that follow, once the platform has taken the key.
///
/// # Errors
/// The platform does not answer or does not know the key, or the context cannot be kept.
pub fn login(screen: Screen, url: String, key: Option<String>) -> Outcome {
    let key = match key.as_deref() {
        Some(key) if key != "-" => key.to_owned(),
        given => key_from_elsewhere(screen, given.is_some())?,
    };
    let key = key.trim().to_owned();
    if key.is_empty() {
        return Err(Failure::Usage("a key is needed: --key KEY, or --key - and the key on standard input".into()));
    }
    let context = Context { url: url.clone(), key: Some(key) };
    let client = Client::new(context.clone());
    match client.get("/v1/functions?limit=1") {
        // A key that may not list functions is a key all the same.
        Err(Failure::Problem(problem)) if problem["status"] == 403 => {}
        other => drop(other?),
    }
    let path = write_context(&context)?;
    done(
        screen,
        json!({ "url": url, "context_file": path }),
        &format!("commands use {} from now on (kept in {})", screen.bold(&url), path.display()),
    )
}

fn key_from_elsewhere(screen: Screen, standard_input: bool) -> Outcome<String> {
    if let Some(key) = std::env::var("RAAS_API_KEY").ok().filter(|key| !key.is_empty() && !standard_input) {
        return Ok(key);
    }
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        screen.note("the key (paste it and press Enter):");
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("the key cannot be read from standard input: {error}")))?;
    Ok(line)
}

/// Makes, lists and revokes keys.
///
/// # Errors
/// No answer, or a problem.
pub fn keys(screen: Screen, client: &Client, command: KeysCommand) -> Outcome {
    match command {
        KeysCommand::Create { tenant, name, scopes } => {
            let mut request = json!({ "name": name });
            if let Some(tenant) = tenant {
                request["tenant"] = tenant.into();
            }
            if !scopes.is_empty() {
                request["scopes"] = scopes.into();
            }
            let body = request.to_string();
            // Sent once only: an answer that is lost has lost the key, and repeating it does not bring the key back.
            let answer = client.call(&Call::new(Method::POST, "/v1/keys").body("application/json", body.as_bytes()))?;
            screen.answer(&answer, |key| {
                format!(
                    "{}\n{}",
                    text(key, "key"),
                    screen.dim(&format!("shown this once · id {} · allows {}", text(key, "id"), scopes_of(key)))
                )
            })
        }
        KeysCommand::List { tenant } => {
            let answer = client.list("/v1/keys", &[("tenant", tenant.as_deref())])?;
            screen.answer(&answer, |keys| {
                let mut table = Table::new(&["ID", "BEGINS WITH", "NAME", "ALLOWS", "CREATED", "REVOKED"]);
                for key in list(keys, "items") {
                    table.row([
                        text(key, "id").to_owned(),
                        text(key, "prefix").to_owned(),
                        text(key, "name").to_owned(),
                        scopes_of(key),
                        moment(text(key, "created_at")),
                        moment(text(key, "revoked_at")),
                    ]);
                }
                table.render(|head| screen.bold(head), "no keys")
            })
        }
        KeysCommand::Revoke { id, tenant } => {
            client.call(
                &Call::new(Method::DELETE, format!("/v1/keys/{}", encode(&id))).query_if("tenant", tenant.as_deref()),
            )?;
            done(screen, json!({ "id": id, "revoked": true }), &format!("key {id} is revoked"))
        }
    }
}

fn scopes_of(key: &Value) -> String {
    list(key, "scopes").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// Makes and lists tenants.
///
/// # Errors
/// No answer, or a problem.
pub fn tenants(screen: Screen, client: &Client, command: TenantsCommand) -> Outcome {
    match command {
        TenantsCommand::Create { name } => {
            let body = json!({ "name": name }).to_string();
            let answer = client
                .call(&Call::new(Method::POST, "/v1/tenants").once().body("application/json", body.as_bytes()))?;
            screen.answer(&answer, |tenant| {
                let hint = format!("id {} · raas keys create --tenant {}", text(tenant, "id"), text(tenant, "name"));
                format!("tenant {} is made\n{}", text(tenant, "name"), screen.dim(&hint))
            })
        }
        TenantsCommand::List => {
            let answer = client.list("/v1/tenants", &[("limit", Some("100"))])?;
            screen.answer(&answer, |tenants| {
                let mut table = Table::new(&["NAME", "ID", "CREATED"]);
                for tenant in list(tenants, "items") {
                    table.row([
                        text(tenant, "name").to_owned(),
                        text(tenant, "id").to_owned(),
                        moment(text(tenant, "created_at")),
                    ]);
                }
                table.render(|head| screen.bold(head), "no tenants")
            })
        }
    }
}
