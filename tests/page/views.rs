//! Every view, in a real browser, with what a small run made.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::json;

use crate::browser::Browser;
use crate::serving::spec;
use crate::{PATIENCE, Site};

/// A spec that draws a pattern, in half a minute.
const DRAWN: &str = include_str!("../../config/specs/sixseven.toml");

/// Where pictures are left, if somebody wants to look at them.
fn gallery() -> Option<PathBuf> {
    std::env::var_os("DPG_PAGE_PICTURES").map(PathBuf::from)
}

async fn sign_in(browser: &Browser, site: &Site) {
    browser.go(&site.url).await;
    browser.write("#token", &site.token).await;
    browser.press("Sign in").await;
    browser.sees("Overview").await;
}

/// Goes to a view, waits for it, and finds nobody kept out in either theme, nothing wider than a phone, and no
/// complaint of the browser.
async fn look(browser: &Browser, site: &Site, name: &str, address: &str, shows: &str) {
    browser.go(&format!("{}/#/{address}", site.url)).await;
    browser.sees(shows).await;
    for (width, dark, judged) in
        [(1280, true, true), (1280, false, false), (800, false, false), (360, false, true)]
    {
        browser.looks(width, dark).await;
        if judged {
            assert_eq!(browser.barriers().await, [""; 0], "{name} at {width}, dark: {dark}");
        }
        if let Some(folder) = gallery() {
            let theme = if dark { "-dark" } else { "" };
            browser.picture(&folder.join(format!("{name}-{width}{theme}.png"))).await;
        }
    }
    let wide = "return [...document.querySelectorAll('body *')].filter((one) => !one.closest('.scroll, nav, pre, .editor, .skip') \
                && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))";
    assert_eq!(browser.script(wide).await, json!([]), "{name} is wider than a phone");
    browser.looks(1280, false).await;
    assert_eq!(browser.complaints().await, [""; 0], "{name}");
}

#[tokio::test]
#[ignore = "a browser looks at every view; .ci/run runs it"]
async fn every_view_shows_a_small_run() {
    let Some(browser) = Browser::open().await else { return };
    let mut site = Site::working().await;
    let queue = site.place.queue().await;
    browser.looks(1280, false).await;

    // signing in, at first with what is not a token
    browser.go(&site.url).await;
    browser.sees("Sign in to this daemon").await;
    assert_eq!(browser.barriers().await, [""; 0], "signing in");
    browser.write("#token", "dpg_wrong").await;
    browser.press("Sign in").await;
    browser.sees("This token is not known here").await;
    sign_in(&browser, &site).await;
    browser.sees("Nothing was submitted yet").await;
    assert_eq!(browser.script("return document.cookie").await, "", "no script can read the cookie");
    // what the first try was told is no complaint
    browser.complaints().await;

    // a spec is written, mended, planned and submitted
    browser.go(&format!("{}/#/new", site.url)).await;
    browser.write("textarea", "name = \"sixseven\"\n[policy]\nstep = 3").await;
    browser.sees("policy.step").await;
    browser.complaints().await;
    let offered = "[...document.querySelectorAll('.offers button')].map((one) => one.textContent)";
    browser.write("textarea", "[policy]\nadv").await;
    browser.until(&format!("{offered}.join() === 'advantage,advantage_clip'")).await;
    let drawn =
        DRAWN.replace("validate_every = 4", "validate_every = 2").replace("steps = 100", "steps = 12");
    let put = format!(
        "const field = document.querySelector('textarea'); field.value = {}; field.dispatchEvent(new Event('input', {{ bubbles: true }}))",
        json!(drawn)
    );
    browser.script(&put).await;
    browser.sees("This is a spec of sixseven").await;
    browser.press("Plan").await;
    browser.sees("Rollouts a step").await;
    // checks of what was half written were refused
    browser.complaints().await;
    look(&browser, &site, "new", "new?", "New job").await;
    browser.script(&put).await;
    browser.sees("This is a spec of sixseven").await;
    browser.press("Submit").await;

    // its job, live to the end
    browser.until("location.hash.startsWith('#/job/')").await;
    browser.until("document.querySelector('.state.succeeded')").await;
    browser.sees("made sixseven@v1").await;
    browser.until("document.querySelectorAll('.film canvas').length >= 4").await;
    // a copy is read, since Chromium complains of canvases that are read often
    let greys = "[...document.querySelectorAll('.film canvas')].some((canvas) => { \
                 const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true }); \
                 copy.drawImage(canvas, 0, 0); \
                 return [...copy.getImageData(0, 0, canvas.width, canvas.height).data] \
                 .some((part, at) => at % 4 === 0 && part > 60 && part < 190); })";
    browser.until(&format!("!{greys}")).await;
    browser.script("document.querySelector('#film ~ p input').click()").await;
    browser.until(greys).await;
    browser.until("document.querySelectorAll('.chart canvas').length >= 6").await;
    let job = queue.find("sixseven").await.unwrap();
    assert!(job.result.is_some());
    site.send(Method::POST, "/v1/jobs", json!({ "spec": spec("told", 3) })).await;
    let told = queue.find("told").await.unwrap().id;
    site.daemon.until(&queue, told, |job| job.state.has_ended()).await;

    // rows that a model could have written to do harm
    let evil = "<script>window.harmed = 1</script><img src=x onerror=\"window.harmed = 1\">";
    let text = |index: u32| if index == 7 { evil.to_owned() } else { format!("row {index} says nothing") };
    let reward = |index: u32| if index == 7 { 99.0 } else { f64::from(index) - 20.0 };
    let rows = |from: u32| (from..from + 60).map(move |index| (text(index), reward(index)));
    site.publish("written", 1, rows(0)).await;
    site.publish("written", 2, rows(7)).await;
    let schedule = json!({ "cron": "0 2 * * *", "time_zone": "Europe/Berlin", "spec": spec("nightly", 1) });
    site.send(Method::PUT, "/v1/schedules/nightly", schedule).await;
    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_dpg"))
        .args(["verify", "told@v1", "--data-dir", "data"])
        .current_dir(site.folder.path())
        .output()
        .unwrap();
    let detail = site.get("/v1/datasets/told").await;
    assert_eq!(detail["versions"][0]["attestations"].as_array().unwrap().len(), 1, "{verified:?}");

    for (name, address, shows) in [
        ("overview", String::new(), "Ended last"),
        ("jobs", "jobs".into(), "succeeded"),
        ("job", format!("job/{}", job.id), "What was drawn"),
        ("job-samples", format!("job/{told}/samples"), "Samples"),
        ("job-spec", format!("job/{told}/spec"), "What was set"),
        ("job-events", format!("job/{told}/events"), "claimed"),
        ("datasets", "datasets".into(), "Champion"),
        ("dataset", "dataset/written".into(), "onerror"),
        ("dataset-rewards", "dataset/told/v1/rewards".into(), "Above 0"),
        ("dataset-verification", "dataset/told/v1/verification".into(), "untrained generator"),
        ("dataset-origin", "dataset/told/v1/origin".into(), "Signed by this daemon"),
        ("dataset-pictures", "dataset/sixseven/v1/pictures".into(), ".png"),
        ("dataset-code", "dataset/told/v1/code".into(), "load_dataset"),
        ("dataset-files", "dataset/told/v1/files".into(), "manifest.json"),
        ("compare", "compare/versions/written@v1/written@v2".into(), "Correlation of rewards"),
        ("compare-runs", format!("compare/jobs/{}/{told}", job.id), "Settings that differ"),
        ("schedules", "schedules".into(), "Europe/Berlin"),
    ] {
        if name == "dataset" {
            browser.go(&format!("{}/#/dataset/written/v1", site.url)).await;
            browser.sees("60 rows").await;
            browser.write("input[type=search]", "onerror").await;
            browser.sees("1 of 60 rows hold").await;
            assert_eq!(browser.script("return window.harmed ?? null").await, json!(null), "a row was run");
        }
        look(&browser, &site, name, &address, shows).await;
    }

    // what is done to jobs and schedules
    browser.press("Pause").await;
    browser.sees("not while it is paused").await;
    browser.press("Resume").await;
    browser.sees("Pause").await;
    browser.press("Run now").await;
    let started = std::time::Instant::now();
    while queue.find("nightly").await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the schedule was not run");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // by keyboard alone: the first thing is the way to the content
    let focus = "document.querySelector('.skip').focus(); document.querySelector('.skip').click(); \
                 return document.activeElement.id";
    assert_eq!(browser.script(focus).await, "main");
    browser.press("Sign out").await;
    browser.sees("Sign in to this daemon").await;
    let again = browser.script("return fetch('/v1/jobs').then((answer) => answer.status)").await;
    assert_eq!(again, 401, "the cookie is gone");
}

#[tokio::test]
#[ignore = "a browser outlives its daemon; .ci/run runs it"]
async fn the_page_goes_on_when_the_daemon_comes_back() {
    let Some(browser) = Browser::open().await else { return };
    let mut site = Site::idle().await;
    let (address, queue) = (site.url.trim_start_matches("http://").to_owned(), site.place.queue().await);
    sign_in(&browser, &site).await;
    browser.until("document.querySelector('.connection.live')").await;
    site.send(Method::POST, "/v1/jobs", json!({ "spec": spec("before", 1) })).await;
    browser.sees("before").await;
    browser.go(&format!("{}/#/job/{}", site.url, queue.find("before").await.unwrap().id)).await;
    browser.sees("waits for a worker").await;

    site.daemon.kill();
    browser.sees("the daemon is away").await;
    site.daemon = site.place.start_at(&address);
    site.answers().await;
    browser.until("document.querySelector('.connection.live')").await;
    site.send(Method::POST, "/v1/jobs/before/cancel", json!({})).await;
    // heard without asking again
    browser.until("document.querySelector('.title .state.cancelled')").await;
    browser.press("Overview").await;
    browser.sees("Ended last").await;
}

/// The first paint does not wait for what there is much of, and a page of it is all that is fetched.
#[tokio::test]
#[ignore = "5000 jobs and 100 000 rows in a browser; .ci/run runs it"]
async fn much_is_shown_a_page_at_a_time() {
    let Some(browser) = Browser::open().await else { return };
    let site = Site::idle().await;
    let queue = site.place.queue().await;
    for number in 0..5_000 {
        queue.submit(&crate::serving::job(&spec(&format!("job-{number}"), 1), 1)).await.unwrap();
    }
    let text = |index: u32| format!("row {index} tells of {}", "many things ".repeat(20));
    site.publish("large", 1, (0..100_000).map(|index| (text(index), (f64::from(index) * 0.37).sin()))).await;
    sign_in(&browser, &site).await;
    for (name, address, shows) in [
        ("overview", "", "All 5,000 jobs that wait"),
        ("jobs", "jobs", "Older jobs"),
        ("rows", "dataset/large/v1/rows", "1 to 25"),
        ("rows again", "dataset/large/v1/rows", "1 to 25"),
    ] {
        browser.go("about:blank").await;
        browser.go(&format!("{}/#/{address}", site.url)).await;
        browser.sees(shows).await;
        let times = "const paint = performance.getEntriesByName('first-contentful-paint')[0]; \
                     return [paint ? Math.round(paint.startTime) : null, Math.round(performance.now()), \
                     document.querySelectorAll('*').length]";
        let times = browser.script(times).await;
        println!(
            "{name}: first paint after {} ms, all of it after {} ms, {} elements",
            times[0], times[1], times[2]
        );
        assert!(times[2].as_u64().unwrap() < 3_000, "{name} has {} elements", times[2]);
    }
    browser.write("input[type=search]", "row 99999 ").await;
    browser.sees("1 of 100,000 rows hold").await;
    browser.choose(".filters select", "reward").await;
    browser.sees("row 99999 tells").await;
    let pictures = gallery().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf());
    browser.picture(&pictures.join("much.png")).await;
}
