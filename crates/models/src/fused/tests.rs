//! Every kernel in f64 against its definition by tensor operations and, for its gradients, against
//! central finite differences; in f32 against itself in f64.

mod logits;
mod weights;

use burn::tensor::{Device, Tensor, activation};
use rand::RngExt;

use burn_backend::TensorData;

use super::*;
use crate::{Dual, MatmulPrecision, keyed_rng};

const ROWS: usize = 6;
const LINEAR: Linear = Linear { precision: MatmulPrecision::F32 };

fn random(n: usize, key: u64) -> Vec<f64> {
    let mut rng = keyed_rng([key, 0, 0, 0]);
    (0..n).map(|_| rng.random_range(-2.0..2.0)).collect()
}

fn tensor(values: &[f64], dtype: DType) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [ROWS, values.len() / ROWS]).convert_dtype(dtype);
    Tensor::from_data(data, (&Device::flex(), dtype))
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.to_data_as::<f64>().iter().collect()
}

/// The output of what has one and runs on the CPU.
fn one<const D: usize>(outputs: Option<[Tensor<D>; 1]>) -> Tensor<D> {
    let [output] = outputs.expect("it runs on the CPU");
    output
}

fn assert_close(ours: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (a, b) in ours.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a:e}, expected {b:e}");
    }
}

/// Checks the gradients of a kernel of rows of `n`.
fn check<const N: usize, const M: usize>(kernel: &impl Kernel<N, M>, n: usize) {
    check_operation(&Rows(kernel.clone()), [[ROWS, n]; N]);
}

fn log_prob(n: usize) -> LogProb {
    LogProb { targets: (0..ROWS as u32).map(|row| row * 7 % n as u32).collect() }
}

#[test]
fn gradients_equal_finite_differences() {
    // below, at and above the lanes of a partial sum
    for n in [5, 16, 37] {
        for causal in [None, Some(3)] {
            let softmax = Softmax { scale: 0.7, causal };
            check(&softmax, n);
            check(&SoftmaxTangent(softmax), n);
        }
        for activation in [Activation::Silu, Activation::GeluNew] {
            check(&activation, n);
            check(&ActivationDual(activation), n);
            check(&Gated(activation), n);
            check(&GatedDual(Gated(activation)), n);
        }
        check(&log_prob(n), n);
        check(&Divergence, n);
    }
}

#[test]
fn values_equal_their_definitions() {
    let n = 37;
    let x = tensor(&random(ROWS * n, 1), DType::F64);
    let equal = |ours: Option<[Tensor<2>; 1]>, expected: Tensor<2>, what: &str| {
        assert_close(&host(one(ours)), &host(expected), 1e-13, what);
    };
    let softmax = Softmax { scale: 0.7, causal: None };
    equal(apply(softmax, [&x]), activation::softmax(x.clone() * 0.7, 1), "softmax");
    let hidden = x.clone().slice([0..ROWS, 0..1]).ones_like();
    let first = one(apply(Softmax { scale: 0.7, causal: Some(1) }, [&x])).slice([0..ROWS, 0..1]);
    let first = host(first);
    assert_close(&first, &host(hidden), 1e-15, "a first query sees its own key alone");

    let ones = tensor(&vec![1.0; ROWS * n], DType::F64).slice([0..1, 0..n]);
    let norm = |centred| run(Norm(Normalise { centred, epsilon: 1e-3 }), [&x, &ones]);
    let centred = x.clone() - x.clone().mean_dim(1);
    let deviation = (centred.clone().powf_scalar(2.0).mean_dim(1) + 1e-3).sqrt();
    equal(norm(true), centred / deviation, "layer norm");
    let root = (x.clone().powf_scalar(2.0).mean_dim(1) + 1e-3).sqrt();
    equal(norm(false), x.clone() / root, "RMS norm");

    equal(apply(Activation::Silu, [&x]), x.clone() * activation::sigmoid(x.clone()), "SiLU");
    let inner = (x.clone() + x.clone().powf_scalar(3.0) * 0.044715) * std::f64::consts::FRAC_2_PI.sqrt();
    equal(apply(Activation::GeluNew, [&x]), x.clone() * (inner.tanh() + 1.0) * 0.5, "GELU");

    let z = tensor(&random(ROWS * n, 2), DType::F64);
    let (p, q) = (activation::log_softmax(x.clone(), 1), activation::log_softmax(z.clone(), 1));
    equal(apply(Divergence, [&x, &z]), (p.clone().exp() * (p - q)).sum_dim(1), "KL divergence");

    let targets: Vec<i64> = log_prob(n).targets.iter().map(|&id| i64::from(id)).collect();
    let targets = Tensor::from_data(TensorData::new(targets, [ROWS, 1]), &Device::flex());
    equal(apply(log_prob(n), [&x]), activation::log_softmax(x, 1).gather(1, targets), "log-probability");
}

#[test]
fn exponential_is_accurate() {
    let mut worst: f64 = 0.0;
    for i in -870_000..880_000 {
        let x = i as f32 * 1e-4;
        let exact = f64::from(x).exp();
        worst = worst.max((f64::from(x.exponential()) / exact - 1.0).abs());
    }
    // two units in the last place
    assert!(worst < 2.4e-7, "{worst:e}");
    assert!(f32::NAN.exponential().is_nan());
    assert!((-1e30f32).exponential() < 1e-37 && 1e30f32.exponential() > 1e38);
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let n = 300;
    let x: Vec<f64> = (0..40).flat_map(|key| random(ROWS * n, key)).collect();
    let x =
        Tensor::<2>::from_data(TensorData::new(x, [40 * ROWS, n]).convert_dtype(DType::F32), &Device::flex());
    // a weight that is widened some columns at a time
    let few = Tensor::<2>::from_data(
        TensorData::new(random(5 * 1100, 2), [5, 1100]).convert_dtype(DType::F32),
        &Device::flex(),
    );
    let weight = |shape| TensorData::new(random(1100 * 700, 1), shape).convert_dtype(DType::BF16);
    let weight = |shape| Tensor::<2>::from_data(weight(shape), (&Device::flex(), DType::BF16));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [
                host(one(apply(Softmax { scale: 1.0, causal: None }, [&x]))),
                host(one(run(LINEAR, [&few, &weight([1100, 700])]))),
                host(one(run(LINEAR, [&few, &weight([700, 1100]).transpose()]))),
            ]
        })
    };
    assert_eq!(run(1), run(3));
    assert_eq!(run(1), run(8));
    // as little as on the rows beside
    let many = Tensor::cat(vec![few.clone(); 60], 0);
    let of = |x: &Tensor<2>| host(one(self::run(LINEAR, [x, &weight([1100, 700])])));
    assert_eq!(of(&many)[..5 * 700], of(&few));
}

/// A composed form stands in where a kernel does not reach: here in bf16.
#[test]
fn other_types_are_composed() {
    let x = tensor(&random(ROWS * 8, 1), DType::F32);
    let low = Dual::from(x.clone().cast(DType::BF16));
    assert!(apply(Gated(Activation::Silu), [&low.primal, &low.primal]).is_none());
    let close = |ours: Dual<2>, expected: Dual<2>, what: &str| {
        assert_close(&host(ours.primal.cast(DType::F32)), &host(expected.primal), 0.05, what);
    };
    let single = Dual::from(x);
    close(low.clone().softmax(0.5, Some(ROWS)), single.clone().softmax(0.5, Some(ROWS)), "softmax");
    let ones = |x: &Dual<2>| Dual::from(x.primal.ones_like().slice([0..1, 0..8]));
    let norm = |x: &Dual<2>| x.clone().norm(true, 1e-3, ones(x), None);
    close(norm(&low), norm(&single), "layer norm");
    close(low.clone().gelu_new(), single.clone().gelu_new(), "GELU");
    close(low.silu_times(&low), single.silu_times(&single), "SiLU");
}

/// Checks an operation's gradients of `sum <c_i, output_i>`, for random c, against central differences in f64, and in f32
/// against f64: of all its outputs together, and of each alone.
fn check_operation<const D: usize, const N: usize, const M: usize>(
    operation: &impl Operation<N, M>,
    shapes: [[usize; D]; N],
) {
    const H: f64 = 1e-5;
    let values: [Vec<f64>; N] = std::array::from_fn(|i| random(shapes[i].iter().product(), 10 + i as u64));
    let inputs = |values: &[Vec<f64>; N], dtype: DType| -> [Tensor<D>; N] {
        std::array::from_fn(|i| {
            let data = TensorData::new(values[i].clone(), shapes[i]).convert_dtype(dtype);
            Tensor::from_data(data, (&Device::flex(), dtype))
        })
    };
    let forward = |values: &[Vec<f64>; N]| {
        run(operation.clone(), inputs(values, DType::F64).each_ref()).unwrap().map(host)
    };
    let length = forward(&values)[0].len();
    let cotangents: [Vec<f64>; M] = std::array::from_fn(|i| random(length, 3 + i as u64));
    let alone = if M == 1 { 0..0 } else { 0..M };
    for used in std::iter::once(0..M).chain(alone.map(|output| output..output + 1)) {
        let what = format!("{operation:?}, outputs {used:?}");
        let value = |values: &[Vec<f64>; N]| -> f64 {
            let outputs = forward(values);
            let used = outputs.iter().zip(&cotangents).skip(used.start).take(used.len());
            used.map(|(output, c)| output.iter().zip(c).map(|(a, b)| a * b).sum::<f64>()).sum()
        };
        let gradients = |dtype| {
            let inputs = inputs(&values, dtype).map(|input| input.autodiff().require_grad());
            let outputs = run(operation.clone(), inputs.each_ref()).unwrap();
            let parts = outputs.into_iter().zip(&cotangents).skip(used.start).take(used.len());
            let parts = parts.map(|(output, cotangent)| {
                let data = TensorData::new(cotangent.clone(), output.dims()).convert_dtype(dtype);
                (output * Tensor::<D>::from_data(data, (&Device::flex(), dtype)).autodiff()).sum()
            });
            let tape = parts.reduce(|a, b| a + b).unwrap().backward();
            inputs.map(|input| host(input.grad(&tape).unwrap()))
        };
        let exact = gradients(DType::F64);
        for (which, single) in gradients(DType::F32).iter().enumerate() {
            assert_close(single, &exact[which], 1e-4, &format!("{what}, f32, input {which}"));
        }
        for which in 0..N {
            let differences: Vec<f64> = (0..values[which].len())
                .map(|place| {
                    let moved = |h: f64| {
                        let mut values = values.clone();
                        values[which][place] += h;
                        value(&values)
                    };
                    (moved(H) - moved(-H)) / (2.0 * H)
                })
                .collect();
            assert_close(&exact[which], &differences, 1e-7, &format!("{what}, input {which}"));
        }
    }
}

#[test]
fn gradients_of_operations_equal_finite_differences() {
    check_operation(&LINEAR, [[5, 4], [4, 3]]);
    check_operation(&LINEAR, [[5, 4], [4, 3], [1, 3]]);
    check_operation(&LinearDual(LINEAR), [[5, 4], [5, 4], [4, 3], [4, 3]]);
    check_operation(&LinearDual(LINEAR), [[5, 4], [5, 4], [4, 3], [4, 3], [1, 3]]);
    check_operation(&LinearDual(LINEAR), [[5, 4], [5, 4], [4, 3], [4, 3], [1, 3], [1, 3]]);
    for centred in [false, true] {
        let kernel = Normalise { centred, epsilon: 1e-3 };
        let (x, w) = ([2, 3, 19], [1, 1, 19]);
        check_operation(&Norm(kernel), [x, w]);
        check_operation(&Norm(kernel), [x, w, w]);
        check_operation(&NormDual(kernel), [x, x, w, w]);
        check_operation(&NormDual(kernel), [x, x, w, w, w]);
        check_operation(&NormDual(kernel), [x, x, w, w, w, w]);
    }
    for positions in [4, 8] {
        let angles: Vec<f64> = (0..positions * 3).map(|i| f64::from(i) * 0.3).collect();
        let table = |f: fn(f64) -> f64| angles.iter().copied().map(f).collect();
        let rotation = Rotation { heads: 2, cos: table(f64::cos), sin: table(f64::sin) };
        check_operation(&Rows(rotation), [[2, 4, 2, 6]]);
    }
    let (wide, narrow) = ([2, 5, 12], [2, 5, 6]);
    let grouped = Attention { query: 4, kv: 2, dim: 3, precision: MatmulPrecision::F32 };
    check_operation(&grouped, [wide, narrow, narrow]);
    check_operation(&AttentionDual(grouped), [wide, narrow, narrow, wide, narrow, narrow]);
    check_operation(&grouped, [[2, 5, 24]]);
    check_operation(&AttentionDual(grouped), [[2, 5, 24], [2, 5, 24]]);
}

/// The second output of a dual operation is the derivative of the first, which is the plain one's, along the tangents of all
/// inputs.
#[test]
fn tangents_are_directional_derivatives() {
    const H: f64 = 1e-5;
    fn along<const D: usize, const N: usize, const M: usize>(
        value: &impl Operation<N>,
        dual: &impl Operation<M, 2>,
        shapes: [[usize; D]; N],
        arrange: impl Fn([Tensor<D>; N], [Tensor<D>; N]) -> [Tensor<D>; M],
    ) {
        let tensors = |key: u64| -> [Tensor<D>; N] {
            std::array::from_fn(|i| {
                let values = random(shapes[i].iter().product(), key + i as u64);
                Tensor::from_data(TensorData::new(values, shapes[i]), (&Device::flex(), DType::F64))
            })
        };
        let (x, dx) = (tensors(1), tensors(20));
        let at = |h: f64| {
            let moved: [Tensor<D>; N] = std::array::from_fn(|i| x[i].clone() + dx[i].clone() * h);
            host(one(run(value.clone(), moved.each_ref())))
        };
        let differences: Vec<f64> =
            at(H).iter().zip(at(-H)).map(|(above, below)| (above - below) / (2.0 * H)).collect();
        let plain = at(0.0);
        let inputs = arrange(x, dx);
        let [y, dy] = run(dual.clone(), inputs.each_ref()).unwrap().map(host);
        assert_close(&dy, &differences, 1e-8, &format!("{dual:?}"));
        assert_close(&y, &plain, 1e-14, &format!("{dual:?}"));
    }
    along(&LINEAR, &LinearDual(LINEAR), [[5, 4], [4, 3], [1, 3]], |[x, w, b], [dx, dw, db]| {
        [x, dx, w, dw, b, db]
    });
    for centred in [false, true] {
        let kernel = Normalise { centred, epsilon: 1e-3 };
        along(
            &Norm(kernel),
            &NormDual(kernel),
            [[2, 3, 19], [1, 1, 19], [1, 1, 19]],
            |[x, w, b], [dx, dw, db]| [x, dx, w, dw, b, db],
        );
    }
    for activation in [Activation::Silu, Activation::GeluNew] {
        along(&Rows(activation), &Rows(ActivationDual(activation)), [[3, 37]], |[x], [dx]| [x, dx]);
        let kernel = Gated(activation);
        along(&Rows(kernel), &Rows(GatedDual(kernel)), [[3, 37]; 2], |[a, b], [da, db]| [a, b, da, db]);
    }
    let grouped = Attention { query: 4, kv: 2, dim: 3, precision: MatmulPrecision::F32 };
    along(
        &grouped,
        &AttentionDual(grouped),
        [[2, 5, 12], [2, 5, 6], [2, 5, 6]],
        |[q, k, v], [dq, dk, dv]| [q, k, v, dq, dk, dv],
    );
    for causal in [None, Some(3)] {
        let softmax = Softmax { scale: 0.7, causal };
        let (x, dx) = (random(ROWS * 37, 1), random(ROWS * 37, 2));
        let at = |h: f64| {
            let moved: Vec<f64> = x.iter().zip(&dx).map(|(x, dx)| x + h * dx).collect();
            one(apply(softmax, [&tensor(&moved, DType::F64)]))
        };
        let ours = host(one(apply(SoftmaxTangent(softmax), [&at(0.0), &tensor(&dx, DType::F64)])));
        let (above, below) = (host(at(H)), host(at(-H)));
        let differences: Vec<f64> = above.iter().zip(below).map(|(a, b)| (a - b) / (2.0 * H)).collect();
        assert_close(&ours, &differences, 1e-8, "softmax");
    }
}
