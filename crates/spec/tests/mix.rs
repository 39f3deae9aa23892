//! Generators of several: what a spec may say of them.

use dpg_spec::{Spec, Syntax};

const HEAD: &str = "name = 'a'\nmetric = { kind = 'weight_norm' }\ntarget = { model = 'embedded:target' }\n\
                    [generator]\nkind = 'mix'\nprompts = { path = 'rows.jsonl' }\n";
const LOCAL: &str = "generator = { model = 'embedded:generator' }";
const NEAR: &str = "generator = { kind = 'api', teacher = 'near', model = 'm', max_completion_tokens = 8 }";
const FAR: &str = "generator = { kind = 'api', teacher = 'far', model = 'm', max_completion_tokens = 9, \
                   arms = [{ name = 'x' }, { name = 'y' }] }";

fn members(keys: &str, members: &[(&str, &str)]) -> String {
    let member = |(head, generator): &(&str, &str)| format!("[[generator.members]]\n{head}\n{generator}\n");
    format!("{HEAD}{keys}\n{}", members.iter().map(member).collect::<String>())
}

#[test]
fn a_mix_knows_its_members() {
    let text = members("", &[("name = 'a'\nshare = 0.5", LOCAL), ("name = 'b'\nshare = 0.5", FAR)]);
    let text = text.replace("'embedded:generator' }", "'embedded:generator', template = 'x {text}' }");
    let mut spec = Spec::parse(&text, Syntax::Toml).unwrap();
    assert_eq!(Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap(), spec);
    let places: Vec<_> = spec.locations().into_iter().map(|location| location.key).collect();
    let expected = ["target.model", "generator.prompts.path", "generator.members[0].generator.model"];
    assert_eq!(places, expected);
    let generator = spec.generator.as_mut().unwrap();
    let arms = ["a", "b: x", "b: y"].map(str::to_owned);
    assert_eq!((generator.arms(), generator.max_new_tokens()), (arms.to_vec(), 128));
    assert_eq!(generator.teachers_below("generator")[0].0, "generator.members[1].generator");
}

#[test]
fn what_does_not_go_together_in_a_mix_is_told() {
    let (a, b) = ("name = 'a'\nshare = 0.5", "name = 'b'\nshare = 0.5");
    let nested = format!(
        "[generator.members.generator]\nkind = 'mix'\nlearn = true\n[[generator.members.generator.members]]\n\
                          name = 'c'\n{NEAR}\n[[generator.members.generator.members]]\nname = 'd'\n{FAR}"
    );
    let prompted = NEAR.replace(" }", ", prompts = { path = 'x.jsonl' } }");
    let unkept = NEAR.replace(" }", ", keep_reasoning = true }");
    for (keys, of, expected) in [
        ("", vec![(a, LOCAL)], "`generator.members`: of one member"),
        ("", vec![(a, NEAR), (a, FAR)], "`generator.members[1].name`: another member"),
        ("", vec![(a, NEAR), ("name = 'b'", FAR)], "`generator.members[1].share`: a member needs"),
        (
            "learn = true",
            vec![(a, NEAR), ("name = 'b'", FAR)],
            "`generator.members[0].share`: a member needs",
        ),
        ("", vec![(a, NEAR), ("name = 'b'\nshare = 0.4", FAR)], "`generator.members`: all shares"),
        ("", vec![(a, LOCAL), (b, LOCAL)], "`generator.members`: two of them are models"),
        ("", vec![(a, NEAR), (b, NEAR)], "`generator.members[1].generator.teacher`: another member asks"),
        ("", vec![(a, &prompted), (b, FAR)], "`generator.members[0].generator.prompts`: the prompts"),
        ("", vec![(a, &nested), (b, LOCAL)], "`generator.members[0].generator.kind`: a mix"),
        ("", vec![(a, &unkept), (b, FAR)], "`generator.members[0].generator.keep_reasoning`: has its place"),
    ] {
        let error = Spec::parse(&members(keys, &of), Syntax::Toml).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
