//! The script that measures on a machine with a GPU (deploy/cuda/run.sh), on the CPU.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What `cargo xtask gpu` puts together, of the program under test.
fn bundle(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cuda");
    for file in ["run.sh", "short.toml"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let packed = Stdio::from(File::create(folder.join("dpg.gz")).unwrap());
    let gzip = Command::new("gzip").args(["-1", "-c", env!("CARGO_BIN_EXE_dpg")]).stdout(packed).status();
    assert!(gzip.unwrap().success());
}

fn run(folder: &Path, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new("sh");
    command.current_dir(folder).arg("run.sh").args(arguments).args(["--out", "report.md"]);
    for variable in ["DPG_DEVICE", "DPG_URL", "DPG_CONFIG", "DPG_STORE"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    (output, fs::read_to_string(folder.join("report.md")).unwrap_or_default())
}

#[test]
#[ignore = "a story of benchmarks and a run; .ci/run runs it"]
fn the_script_reports_conformance_benchmarks_and_a_run() {
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path());
    let arguments = ["--device", "cpu", "--shapes", "smallest", "--rounds", "1", "--python", "no-python"];
    let (output, report) = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}\n{report}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "# dpg on cpu",
        "metagradient run, T = 16",
        "sampling",
        "`short` is valid",
        "rewards      off by",
        "published short@v1: 32 rows",
        "All sections passed.",
    ] {
        assert!(report.contains(part), "no `{part}` in\n{report}");
    }
    // each optimizer with each metric but the one that a program measures, and with one of them a run of one step
    let kinds = dpg_spec::Metric::examples().len() - 1;
    // the CPU has products of one precision
    assert_eq!(report.matches("| ok |").count(), 1 + 2 * (kinds + 1), "{report}");
    assert!(!report.contains("FAILED"), "{report}");

    // what fails is in the report, and the script's status says so
    let (output, report) = run(folder.path(), &["--device", "cpu:7", "--shapes", "smallest"]);
    assert!(!output.status.success());
    assert_eq!(report.matches("FAILED:").count(), 4, "{report}");
    assert!(report.contains("device `cpu:7`: expected `cpu`"), "{report}");
    assert!(report.trim_end().ends_with("A section FAILED."), "{report}");

    let (output, _) = run(folder.path(), &["--devices", "cpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`--devices` is not an option"));
}
