//! Benchmarks of the engine: `cargo bench -p benches`.
