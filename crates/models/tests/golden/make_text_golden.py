"""Writes tokens.json and chat.json: texts as transformers encodes them, conversations as it renders
them. Run it with transformers 5 after make_golden.py, whose tokenizers it uses: `python make_text_golden.py`."""

import json
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent

TEXTS = [
    "the quick brown fox",
    " leading and  double spaces\n\nand lines, don't",
    "café pequeña? 0123",
    "Capitals and \u4e16 are unknown",
    "",
    "a <|im_end|> b </s> c <|endoftext|>",
]

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": '  say "hi" & <b>, café  '},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nhi"},
    {"role": "user", "content": "again"},
]

# One idiom of public templates each.
TEMPLATES = {
    "bos, whitespace control and indentation": """\
{{ bos_token }}
{%- for message in messages %}
    {% if message['role'] == 'user' %}
[u] {{ message['content'] | trim }} [/u]
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token -}}
    {% endif %}
{%- endfor %}
""",
    "alternation": """\
{%- if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}
{%- for message in rest %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}
{%- endif %}
{{- message.role | upper ~ ': ' ~ message.content.strip() ~ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}
""",
    "refusal": "{{ raise_exception('no') if messages | length > 1 else 'ok' }}",
    "optional date and tools": """\
{%- if not date is defined %}{%- set date = '26 Jul 2024' %}{%- endif %}
{%- if tools is not none %}{{ 'tools' }}{% else %}{{ 'none, ' }}{% endif %}
{%- if tools %}{{ tools[0] }}{% endif %}
{{- date }} {{ documents is none }} {{ messages is iterable }} {{ messages[0].content is string }} {{ absent }}
""",
    "namespace, reversed walk and slices": """\
{%- set ns = namespace(last=-1, done=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if message.role == 'user' and not ns.done %}
        {%- set ns.last = index %}{%- set ns.done = true %}
    {%- endif %}
{%- endfor %}
{{- ns.last }} {{ messages[-1]['content'] }} {{ messages[1:3] | length }} {{ messages[:-1] | map(attribute='role') | join(',') }}
""",
    "thoughts cut off by string methods": """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {{- '(' + thought + ')' }}
    {%- endif %}
    {{- content.replace('hi', 'ho').startswith('ho') }}{{ content }};
{%- endfor %}
""",
    "tojson": """\
{{ messages | tojson }}
{{ messages[0] | tojson(indent=4) }}
{{ {'a': [1, 2.5, true, none], 'b': {}} | tojson }} {{ [] | tojson(indent=2) }}
""",
    "generation blocks and loop controls": """\
{%- for message in messages %}
{%- if message.role == 'system' %}{% continue %}{% endif %}
{%- if message.role == 'assistant' %}
    {%- generation -%}
        {{ message.content }}{{ eos_token }}
    {%- endgeneration -%}
{%- else %}
{{ message.role }}
{% generation %}x{% endgeneration %}
{%- endif %}
{%- if loop.index0 == 2 %}{% break %}{% endif %}
{%- endfor %}
""",
    "macros and defaults": """\
{%- macro turn(role, text, end='.') -%}
    {{ '<' ~ role ~ '>' ~ (text | default('nothing', true)) ~ end }}
{%- endmacro %}
{%- for message in messages %}{{ turn(message.role, message.content if not loop.first else '') }}
{% endfor %}
{%- if add_generation_prompt is defined and add_generation_prompt %}{{ turn('assistant', '', end='') }}{% endif %}
""",
    "dict methods": """\
{%- for message in messages %}
{{- message.get('name', 'nobody') }} {% for key, value in message.items() %}{{ key }}={{ value | length }} {% endfor %}
{%- if 'role' in message and message.tool_calls is not defined %}{{ loop.last }}{% endif %}
{%- endfor %}
""",
}


def tokens():
    for folder in ["gpt2", "llama", "qwen2"]:
        tokenizer = AutoTokenizer.from_pretrained(HERE / folder)
        for text in TEXTS:
            with_special = tokenizer(text)["input_ids"]
            yield {
                "folder": folder,
                "text": text,
                "ids": tokenizer(text, add_special_tokens=False)["input_ids"],
                "with_special": with_special,
                "decoded": tokenizer.decode(with_special, skip_special_tokens=True),
            }


def chats():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "llama" / "tokenizer.json"))
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    for name, template in TEMPLATES.items():
        for generation_prompt in [False, True]:
            try:
                text = tokenizer.apply_chat_template(
                    MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=generation_prompt
                )
            except TemplateError:
                text = None
            yield {
                "name": name,
                "template": template,
                "messages": MESSAGES,
                "generation_prompt": generation_prompt,
                "text": text,
            }


for file, rows in [("tokens.json", tokens()), ("chat.json", chats())]:
    (HERE / file).write_text(json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n")
