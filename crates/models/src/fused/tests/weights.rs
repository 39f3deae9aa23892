//! Weights in either order in memory, of a narrower type, and rows of them.

use super::*;

/// The weight of a tied head is a transposed view; its gradient must come back in the same place.
#[test]
fn a_transposed_weight_gets_its_own_gradient() {
    let gradient = |transposed: bool| {
        let x = tensor(&random(ROWS * 4, 1), DType::F64).autodiff();
        let values = TensorData::new(random(4 * 3, 2), [4, 3]);
        let weight = Tensor::<2>::from_data(values, (&Device::flex(), DType::F64));
        let weight = if transposed {
            weight.transpose().autodiff().require_grad()
        } else {
            weight.autodiff().require_grad()
        };
        let used = if transposed { weight.clone().transpose() } else { weight.clone() };
        let y = one(run(LINEAR, [&x, &used]));
        let tape = (y.clone() * y).sum().backward();
        let gradient = weight.grad(&tape).unwrap();
        host(if transposed { gradient.transpose() } else { gradient })
    };
    assert_close(&gradient(true), &gradient(false), 1e-14, "a transposed weight");
}

/// A weight of a narrower type, in either order and a part of a longer vector, multiplies like its numbers; for few
/// rows a part of its columns at a time, the last of them fewer.
#[test]
fn a_narrow_weight_multiplies_like_its_numbers() {
    let device = Device::flex();
    let (inputs, outputs) = (300, 517);
    let numbers = Tensor::<1>::from_data(random(7 + inputs * outputs, 61).as_slice(), (&device, DType::F64));
    for narrow in [DType::BF16, DType::F16, DType::F32] {
        let vector = numbers.clone().cast(narrow);
        for transposed in [false, true] {
            let weight = |vector: &Tensor<1>| {
                let part = vector.clone().narrow(0, 7, inputs * outputs);
                if transposed {
                    part.reshape([outputs, inputs]).transpose()
                } else {
                    part.reshape([inputs, outputs])
                }
            };
            let (held, wide) = (weight(&vector), weight(&vector.clone().cast(DType::F64)));
            // none, few, and too many to go by columns
            for rows in [0, 1, 5, 300] {
                let what = format!("{narrow:?}, transposed: {transposed}, {rows} rows");
                let x = Tensor::<2>::from_data(
                    TensorData::new(random(rows * inputs, 62), [rows, inputs]),
                    (&device, DType::F64),
                );
                let of = |weight: &Tensor<2>| {
                    let x = x.clone().autodiff().require_grad();
                    let y = one(run(LINEAR, [&x, weight]));
                    let tape = (y.clone() * y.clone()).sum().backward();
                    [host(y), host(x.grad(&tape).unwrap())]
                };
                for (ours, expected) in of(&held).iter().zip(of(&wide)) {
                    assert_close(ours, &expected, 1e-12, &what);
                }
            }
        }
    }
}

#[test]
fn every_half_is_widened_to_its_number() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let held =
        Tensor::<2>::from_data(TensorData::new(halves.clone(), [256, 256]), (&Device::flex(), DType::F16));
    let held = held.try_into_primitive::<Flex>().unwrap();
    let wide = widen::widened::<f32>(&held);
    for (wide, half) in slice::<f32>(&wide).iter().zip(halves) {
        assert!(
            wide.to_bits() == half.to_f32().to_bits() || (wide.is_nan() && half.is_nan()),
            "{half}: {wide}"
        );
    }
}

#[test]
fn rows_are_looked_up_in_a_part_of_a_longer_vector() {
    let numbers: Vec<f64> = (0..20).map(f64::from).collect();
    let lookup = Lookup { rows: [2, 0, 2].into() };
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let whole = Tensor::<1>::from_data(numbers.as_slice(), (&Device::flex(), DType::F64)).cast(dtype);
        let table = whole.narrow(0, 8, 12).reshape([4, 3]);
        let found = one(run(lookup.clone(), [&table]));
        assert_eq!(found.dtype(), dtype);
        assert_eq!(host(found), [14.0, 15.0, 16.0, 8.0, 9.0, 10.0, 14.0, 15.0, 16.0]);
        let turned = one(run(Lookup { rows: [1].into() }, [&table.transpose()]));
        assert_eq!(host(turned), [9.0, 12.0, 15.0, 18.0]);
    }
    // a row that is looked up twice has both gradients
    let table = Tensor::<2>::zeros([4, 2], (&Device::flex(), DType::F64)).autodiff().require_grad();
    let factors = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], (&Device::flex(), DType::F64));
    let tape = (one(run(lookup, [&table])) * factors.autodiff()).sum().backward();
    assert_eq!(host(table.grad(&tape).unwrap()), [3.0, 4.0, 0.0, 0.0, 6.0, 8.0, 0.0, 0.0]);
}

#[test]
#[should_panic(expected = "the table has every row that is asked for")]
fn what_comes_after_a_table_is_not_looked_up() {
    let whole = Tensor::<1>::zeros([12], &Device::flex());
    let _ = run(Lookup { rows: [2].into() }, [&whole.narrow(0, 0, 6).reshape([2, 3])]);
}
