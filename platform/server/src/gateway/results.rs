//! Kept results: `/v1/functions/{name}/results` and `/v1/results`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use raas_core::{CanonicalEvent, PriceList, Tag, limits};
use raas_results::predict::{Account, Source};
use raas_results::{Difference, Proof, Purge};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{ServedCounts, route, served};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::precompute::BankCell;
use crate::proof::ProofCell;
use crate::routing::{FunctionRoute, Scope, VersionRoute};

/// Versions that are shown at most.
const VERSIONS_MAX: usize = 100;

/// What is kept of a function's results.
#[derive(Serialize, ToSchema)]
pub struct ResultsView {
    /// Entries that are fresh.
    pub entries: u64,
    /// Their bodies together, bytes.
    pub bytes: u64,
    /// The compute time they stand for, milliseconds.
    pub compute_ms: f64,
    /// Answers since the platform started.
    pub served: ServedCounts,
    /// What is known of whether results depend on nothing but the event, by version, the newest first.
    pub proofs: Vec<ProofView>,
    /// What was computed before anybody asked, by version, the newest first, since the version was deployed.
    pub precomputed: Vec<PrecomputedView>,
}

/// The books of what was computed before anybody asked, of one version.
#[derive(Serialize, ToSchema)]
pub struct PrecomputedView {
    /// The version.
    pub version: u32,
    /// Calls that were learnt from.
    pub calls: u64,
    /// The part of them whose result was there because it had been computed ahead.
    pub coverage: f64,
    /// All sources together.
    pub total: AccountView,
    /// What computing ahead cost, exactly, in the currency's major unit. Nobody is charged for it.
    pub spent: String,
    /// What computing on request would have cost.
    pub saved: String,
    /// The currency's code.
    pub currency: String,
    /// By what predicted it.
    pub sources: Vec<SourceView>,
}

/// The books of one predictor.
#[derive(Serialize, ToSchema)]
pub struct SourceView {
    /// `hot`, `stride`, `grid`, `markov`, `together`, `recurrence` or `candidates`.
    pub source: &'static str,
    /// Whether anything is computed on its account now: it is where its predictions have come true often enough lately.
    pub on: bool,
    /// Its books.
    #[serde(flatten)]
    pub account: AccountView,
}

/// What predictions came to.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    /// Predictions that were checked against later calls, whether or not they were computed.
    pub predicted: u64,
    /// Results computed ahead.
    pub computed: u64,
    /// What computing them took, milliseconds.
    pub compute_ms: f64,
    /// Results that were there when they were first asked for.
    pub used: u64,
    /// What computing those had taken, milliseconds: saved when they were asked for.
    pub saved_ms: f64,
    /// Asked for before they were there.
    pub late: u64,
    /// Computed and never asked for.
    pub wasted: u64,
    /// What those had taken, milliseconds.
    pub wasted_ms: f64,
    /// The part of those that are decided that were used.
    pub precision: f64,
}

impl AccountView {
    fn of(account: &Account) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            predicted: account.predicted,
            computed: account.computed,
            compute_ms: ms(account.compute_us),
            used: account.used,
            saved_ms: ms(account.saved_us),
            late: account.late,
            wasted: account.wasted,
            wasted_ms: ms(account.wasted_us),
            precision: account.precision(),
        }
    }
}

impl PrecomputedView {
    fn of(prices: &PriceList, version: &VersionRoute, cell: &BankCell) -> Self {
        let state = cell.state.lock();
        let ledger = state.books();
        let total = ledger.total();
        // More than a currency can say is more than anybody will read.
        let cost = |us| {
            prices.compute_cost(version.manifest.memory_mb, us).map(|cost| cost.to_decimal_string()).unwrap_or_default()
        };
        Self {
            version: version.number,
            calls: ledger.calls,
            coverage: ledger.coverage(),
            spent: cost(total.compute_us),
            saved: cost(total.saved_us),
            currency: prices.currency.to_string(),
            total: AccountView::of(&total),
            sources: Source::ALL
                .into_iter()
                .map(|source| SourceView {
                    source: source.as_str(),
                    on: state.bank.is_on(source),
                    account: AccountView::of(ledger.of(source)),
                })
                .collect(),
        }
    }
}

/// What is known of one version's results.
#[derive(Serialize, ToSchema)]
pub struct ProofView {
    /// The version.
    pub version: u32,
    /// `declared` where its author answers for its results; else `static` (they cannot be kept), `shadow` (being shown),
    /// `serving` (shown, and looked at) or `quarantined` (shown to be otherwise).
    pub state: &'static str,
    /// Why it is `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Calls in shadow that were run again and agreed each time; results are kept from 30 on.
    pub shadow_calls: u64,
    /// Runs that were compared and agreed.
    pub agreed: u64,
    /// Runs that differed.
    pub differed: u64,
    /// Runs that could not be compared.
    pub inconclusive: u64,
    /// Kept results handed out.
    pub hits: u64,
    /// Which parts of events the handler was seen to read and nothing else, as JSON pointers, one list for each way through it: results
    /// are told apart by these only. Calls that read otherwise are told apart by their whole events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Vec<String>>,
    /// A result is wrong with a probability below this, with 95 % certainty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong_at_most: Option<f64>,
    /// The last difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<DifferenceView>,
}

/// Where two results of one event first differ.
#[derive(Serialize, ToSchema)]
pub struct DifferenceView {
    /// Where in the result, as a JSON pointer.
    pub pointer: String,
    /// What the first run gave there.
    pub first: String,
    /// What another run gave there.
    pub again: String,
}

impl ProofView {
    fn of(version: &VersionRoute, cell: &ProofCell) -> Self {
        let known = cell.known();
        let upper_bound = known.upper_bound();
        let Proof { state, reason, calls, agreed, hits, inconclusive, differed, difference, .. } = known;
        let sets = version.projections.as_ref().map(|known| known.sets(0)).unwrap_or_default();
        Self {
            version: version.number,
            reads: sets.iter().map(|set| set.iter().map(|part| part.as_str().to_owned()).collect()).collect(),
            state: if cell.declared { "declared" } else { state.as_str() },
            reason,
            shadow_calls: calls,
            agreed,
            differed,
            inconclusive,
            hits,
            wrong_at_most: upper_bound,
            difference: difference.map(|Difference { pointer, first, again }| DifferenceView { pointer, first, again }),
        }
    }
}

/// Which of a function's results are dropped: all, or those that one of these names.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PurgeQuery {
    /// Those of this version.
    pub version: Option<u32>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// That of this event, as JSON.
    pub event: Option<String>,
}

/// Which of the tenant's results are dropped.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TagQuery {
    /// Those with this tag; it must be said.
    pub tag: Option<String>,
}

/// What is kept of a function's results.
#[utoipa::path(get, path = "/v1/functions/{name}/results", tag = "results", operation_id = "result_show", params(("name" = String, Path)),
    responses((status = 200, body = ResultsView), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn results(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ResultsView>, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let route = route(&app, principal, &name)?;
    let held = app.invoker.results.holdings(route.id, app.clock.now());
    Ok(Json(ResultsView {
        entries: held.entries,
        bytes: held.bytes,
        compute_ms: held.compute_us as f64 / 1000.0,
        served: served(&route),
        proofs: route
            .versions
            .values()
            .rev()
            .filter_map(|version| Some(ProofView::of(version, version.proof.as_ref()?)))
            .take(VERSIONS_MAX)
            .collect(),
        precomputed: route
            .versions
            .values()
            .rev()
            .filter_map(|version| Some(PrecomputedView::of(&app.prices, version, version.bank.as_ref()?)))
            .take(VERSIONS_MAX)
            .collect(),
    }))
}

/// Drop kept results of a function: all, or those of a version, a tag or an event. What is being computed now is not kept either.
#[utoipa::path(delete, path = "/v1/functions/{name}/results", tag = "results", operation_id = "result_purge", params(("name" = String, Path), PurgeQuery),
    responses((status = 204), (status = 400, body = ProblemView, content_type = "application/problem+json"),
        (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn purge(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<PurgeQuery>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::FunctionsWrite)?;
    let route = route(&app, principal, &name)?;
    for purge in wanted(&app, &route, &query)? {
        app.purge(purge).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Drop kept results of all functions of the tenant that have a tag.
#[utoipa::path(delete, path = "/v1/results", tag = "results", operation_id = "result_purge_tag", params(TagQuery),
    responses((status = 204), (status = 400, body = ProblemView, content_type = "application/problem+json")))]
pub async fn purge_tag(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<TagQuery>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::FunctionsWrite)?;
    let text = query.tag.as_deref().ok_or_else(|| invalid("say which: `tag=…`".into()))?;
    let tag = tag(text)?;
    app.purge(Purge::TenantTag(principal.tenant, Tag::of(principal.tenant, tag))).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn invalid(title: String) -> Problem {
    Problem::caller(StatusCode::BAD_REQUEST, "invalid-query", title)
}

fn tag(text: &str) -> Result<&str, Problem> {
    let fits = !text.is_empty() && text.len() <= limits::CACHE_TAG_MAX_BYTES;
    fits.then_some(text).ok_or_else(|| invalid(format!("a tag has 1 to {} bytes", limits::CACHE_TAG_MAX_BYTES)))
}

fn wanted(app: &App, route: &FunctionRoute, query: &PurgeQuery) -> Result<Vec<Purge>, Problem> {
    match (query.version, &query.tag, &query.event) {
        (None, None, None) => Ok(vec![Purge::Function(route.id)]),
        (Some(version), None, None) if route.versions.contains_key(&version) => {
            Ok(vec![Purge::Version(route.id, version)])
        }
        (Some(version), None, None) => Err(Problem::not_found("version", &format!("{}/{version}", route.name))),
        (None, Some(text), None) => Ok(vec![Purge::Tag(route.id, Tag::of(route.tenant, tag(text)?))]),
        (None, None, Some(event)) => {
            let event = CanonicalEvent::parse(event.as_bytes())
                .map_err(|error| invalid(format!("the event is not acceptable JSON: {error}")))?;
            let snapshot = app.routing.load();
            let mut purges = Vec::new();
            for version in route.versions.values() {
                let epochs = snapshot.helper_epochs(&route.tenant, &version.manifest.helpers);
                let whole = version.result_key(&event, &epochs);
                let keys = std::iter::once(whole).chain(version.other_keys(&event, &epochs));
                purges.extend(keys.map(|key| Purge::Key(route.id, key)));
            }
            Ok(purges)
        }
        _ => Err(invalid("name a version, a tag or an event, not several of them".into())),
    }
}
