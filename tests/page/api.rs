//! What the API offers for the page.

use dpg_dataset::{Example, message};
use dpg_spec::Format;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Site, of_examples, serving};

fn rewards(page: &Value) -> Vec<f64> {
    page["rows"].as_array().unwrap().iter().map(|row| row["reward"].as_f64().unwrap()).collect()
}

#[tokio::test]
async fn rows_are_listed_sorted_and_searched() {
    let site = Site::idle().await;
    let reward = |index: u32| (f64::from(index) * 0.37).sin();
    let text = |index: u32| {
        if index.is_multiple_of(100) { format!("Grüße {index}") } else { format!("text {index}") }
    };
    site.publish("many", 1, (0..50_000).map(|index| (text(index), reward(index)))).await;
    let rows = "/v1/datasets/many/versions/1/rows";
    let first = site.get(&format!("{rows}?limit=3&offset=49998")).await;
    assert_eq!((first["total"].as_u64(), first["matching"].as_u64()), (Some(50_000), Some(50_000)));
    let listed: Vec<_> =
        first["rows"].as_array().unwrap().iter().map(|row| row["example"]["text"].clone()).collect();
    assert_eq!(listed, [text(49_998), text(49_999)]);
    assert_eq!(first["rows"][0]["record"]["prompt"], "prompt 12499");
    assert_eq!(first["rows"][0]["record"]["n_tokens"], 2 + 49_998 % 5);

    let mut sorted: Vec<f64> = (0..50_000).map(reward).collect();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(
        rewards(&site.get(&format!("{rows}?order=reward&limit=40&offset=100")).await),
        sorted[100..140]
    );
    sorted.reverse();
    let best = site.get(&format!("{rows}?order=-reward&limit=40")).await;
    assert_eq!(rewards(&best), sorted[..40]);
    for row in best["rows"].as_array().unwrap() {
        let index = row["row"].as_u64().unwrap() as u32;
        assert_eq!(
            (row["reward"].as_f64(), &row["example"]["text"]),
            (Some(reward(index)), &json!(text(index)))
        );
    }
    // in any case, and sorted as well
    let found = site.get(&format!("{rows}?search=gR%C3%9CSSe&limit=5")).await;
    assert_eq!(found["matching"], 0, "ß is not ss");
    let found = site.get(&format!("{rows}?search=GR%C3%9C&order=-reward&limit=5")).await;
    assert_eq!(found["matching"], 500);
    let mut of_found: Vec<f64> = (0..50_000).step_by(100).map(reward).collect();
    of_found.sort_by(|one, other| other.total_cmp(one));
    assert_eq!(rewards(&found), of_found[..5]);
    for (query, status) in
        [("order=size", 400), ("split=test", 400), ("limit=x", 400), ("split=validation", 200)]
    {
        let answer = site.request(Method::GET, &format!("{rows}?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{query}");
    }

    let summary = site.get("/v1/datasets/many/versions/1/rewards?bins=20").await;
    let bars = summary["rewards"].as_array().unwrap();
    let rows: u64 = bars.iter().map(|bar| bar["count"].as_u64().unwrap()).sum();
    assert_eq!((bars.len(), rows), (20, 50_000));
    assert_eq!(summary["statistics"]["max"], sorted[0]);
}

/// Whatever an example's columns are, its texts are searched and shown.
#[tokio::test]
async fn rows_of_every_format_are_listed() {
    let site = Site::idle().await;
    let answer = |index: u32| format!("answer {index}");
    let pair = |index| Example::PromptCompletion { prompt: "What?".into(), completion: answer(index) };
    let turns = |index| {
        Example::Messages(vec![message("user", "What?"), message("assistant", &answer(index))].into())
    };
    let reward = |index: u32| -f64::from(index);
    for (name, format, rows) in [
        (
            "pairs",
            Format::PromptCompletion,
            (0..30).map(|index| (pair(index), reward(index))).collect::<Vec<_>>(),
        ),
        ("turns", Format::Messages, (0..30).map(|index| (turns(index), reward(index))).collect()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        site.registry().publish(&of_examples(folder.path(), name, 1, format, rows)).await.unwrap();
        let found =
            site.get(&format!("/v1/datasets/{name}/versions/1/rows?search=ANSWER%202&order=reward")).await;
        // 2 and 20 to 29, the smallest reward first
        let listed: Vec<_> = found["rows"].as_array().unwrap().iter().map(|row| row["row"].clone()).collect();
        assert_eq!((&found["matching"], listed.len()), (&json!(11), 11));
        assert_eq!((&listed[0], &listed[10]), (&json!(29), &json!(2)));
        let expected = match format {
            Format::Messages => json!({ "messages": [
                { "role": "user", "content": "What?" }, { "role": "assistant", "content": "answer 29" },
            ]}),
            _ => json!({ "prompt": "What?", "completion": "answer 29" }),
        };
        assert_eq!(found["rows"][0]["example"], expected);
        let short = site.get(&format!("/v1/datasets/{name}/versions/1/rows?order=length&limit=3")).await;
        let short: Vec<_> = short["rows"].as_array().unwrap().iter().map(|row| row["row"].clone()).collect();
        assert_eq!(short, [0, 5, 10]);
    }
}

#[tokio::test]
async fn versions_are_compared_with_their_rows() {
    let site = Site::idle().await;
    let rows = |from: u32, to: u32, scale: f64| {
        (from..to).map(move |index| (format!("row {index}"), scale * f64::from(index)))
    };
    site.publish("two", 1, rows(0, 60, 1.0)).await;
    site.publish("two", 2, rows(30, 100, -2.0)).await;
    let compared = site.get("/v1/datasets/two/versions/v2/compare?with=v1").await;
    let counts = ["rows_added", "rows_removed", "rows_kept"].map(|name| compared[name].as_u64().unwrap());
    assert_eq!(counts, [40, 30, 30]);
    assert!((compared["rewards_correlation"].as_f64().unwrap() + 1.0).abs() < 1e-12, "{compared}");
    let texts = |name: &str| -> Vec<String> {
        let rows = compared[name].as_array().unwrap().iter();
        rows.map(|row| row["example"]["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((texts("gone").len(), texts("came").len()), (20, 20));
    assert_eq!((texts("gone")[0].as_str(), texts("came")[0].as_str()), ("row 29", "row 60"));
    assert_eq!(compared["spec"], json!([{ "key": "seed", "from": "1", "to": "2" }]));
    let same = site.get("/v1/datasets/two/versions/v2/compare?with=two@v2").await;
    assert_eq!((same["rows_kept"].as_u64(), &same["gone"]), (Some(70), &json!([])));
    let absent = site.request(Method::GET, "/v1/datasets/two/versions/v2/compare?with=none@v1");
    assert_eq!(absent.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_token_sees_no_rows_of_other_datasets() {
    let site = Site::idle().await;
    site.publish("one", 1, [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]).await;
    site.publish("other", 1, [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]).await;
    let body = json!({ "name": "narrow", "scopes": ["read"], "datasets": ["one"] });
    let created = site.send(Method::POST, "/v1/tokens", body).await;
    let secret = created["secret"].as_str().unwrap();
    for (path, status) in [
        ("one/versions/1/rows", 200),
        ("one/versions/1/evidence", 200),
        ("other/versions/1/rows", 403),
        ("other/versions/1/rewards", 403),
        ("other/versions/1/evidence", 403),
        ("other/versions/1/compare?with=1", 403),
        ("one/versions/1/compare?with=other@1", 403),
    ] {
        let request = site.anonymous(Method::GET, &format!("/v1/datasets/{path}")).bearer_auth(secret);
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test]
async fn specs_are_checked_planned_and_put_in_order() {
    let site = Site::idle().await;
    let templates = site.get("/v1/specs/templates").await;
    let template = templates["templates"].as_array().unwrap().iter().find(|one| one["name"] == "qr").unwrap();
    let checked = site.send(Method::POST, "/v1/specs/check", json!({ "spec": template["spec"] })).await;
    assert_eq!(checked["name"], "qr");
    let written = checked["written"].as_array().unwrap();
    assert!(written.contains(&json!("target.sft.optimizer.kind")) && !written.contains(&json!("policy.kl")));
    assert_eq!(checked["resolved"]["policy"]["kl"], 0.0);
    assert!(site.get("/v1/specs/schema").await["properties"]["policy"].is_object());

    let wrong = serving::spec("wrong", 1).replace("prompts_per_step", "prompts_per_stop");
    for path in ["/v1/specs/check", "/v1/specs/plan"] {
        let answer = site.request(Method::POST, path).json(&json!({ "spec": wrong })).send().await.unwrap();
        assert_eq!(answer.status(), 422);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["errors"][0]["path"], "policy.prompts_per_stop");
        assert!(problem["errors"][0]["line"].is_u64(), "{problem}");
    }
    let plan =
        site.send(Method::POST, "/v1/specs/plan", json!({ "spec": serving::spec("planned", 2) })).await;
    assert_eq!((&plan["name"], &plan["steps"]), (&json!("planned"), &json!(2)));
    assert!(plan["estimated_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(site.get("/v1/jobs").await["jobs"], json!([]), "nothing was submitted");

    let job = site.send(Method::POST, "/v1/jobs", json!({ "spec": serving::spec("first", 1) })).await;
    let path = format!("/v1/jobs/{}/priority", job["job"]["id"].as_str().unwrap());
    assert_eq!(site.send(Method::PUT, &path, json!({ "priority": 7 })).await["priority"], 7);
    let overview = site.get("/v1/overview").await;
    assert_eq!((&overview["counts"]["queued"], &overview["queued"][0]["priority"]), (&json!(1), &json!(7)));
    let detail = site.get("/v1/jobs/first").await;
    assert!(detail["written"].as_array().unwrap().contains(&json!("policy.steps")), "{detail}");
    site.send(Method::POST, "/v1/jobs/first/cancel", json!({})).await;
    let late = site.request(Method::PUT, &path).json(&json!({ "priority": 1 })).send().await.unwrap();
    assert_eq!(late.status(), 409, "a job that has ended has no place");
}

/// The curves are what the events tell, and the evidence is signed by this daemon.
#[tokio::test]
async fn a_run_tells_its_curves_and_its_origin() {
    let mut site = Site::working().await;
    let queue = site.place.queue().await;
    let submitted = site.send(Method::POST, "/v1/jobs", json!({ "spec": serving::spec("told", 3) })).await;
    let id = submitted["job"]["id"].as_str().unwrap().parse().unwrap();
    site.daemon.until(&queue, id, |job| job.state.has_ended()).await;
    let series = site.get("/v1/jobs/told/series").await;
    let job = site.get("/v1/jobs/told").await;
    assert_eq!((&series["step"], &series["last_event"]), (&json!([1, 2, 3]), &job["last_event"]));
    for curve in ["phi", "reward_mean", "reward_std", "entropy", "kl", "seconds"] {
        let values = series["curves"][curve].as_array().unwrap();
        assert!(values.len() == 3 && values.iter().all(Value::is_f64), "{curve}: {values:?}");
    }
    let events = site.get("/v1/jobs/told/events").await;
    let told = events["events"].as_array().unwrap().iter();
    let last = told.rev().find(|event| event["kind"] == "steps").unwrap()["detail"]["records"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!((&last["step"], &last["phi"]), (&json!(3), &series["curves"]["phi"][2]));
    let validations = series["validations"].as_array().unwrap();
    assert_eq!((&validations[0]["step"], &validations.last().unwrap()["step"]), (&json!(0), &json!(3)));
    assert!(!validations[0]["samples"].as_array().unwrap().is_empty());
    let overview = site.get("/v1/overview").await;
    assert_eq!(
        (&overview["ended"][0]["name"], overview["machines"].as_array().unwrap().len()),
        (&json!("told"), 1)
    );
    let evidence = site.get("/v1/datasets/told/versions/1/evidence").await;
    assert_eq!((&evidence["signer"], &evidence["doubt"]), (&json!("own key"), &Value::Null));
    assert!(evidence["provenance"]["predicate"]["buildDefinition"].is_object(), "{evidence}");
    let mut live = site.request(Method::GET, "/v1/overview/live").send().await.unwrap();
    let heard = live.chunk().await.unwrap().unwrap();
    let heard = String::from_utf8(heard.to_vec()).unwrap();
    assert!(heard.starts_with("event: overview\n") && heard.contains("\"told\""), "{heard}");
}
