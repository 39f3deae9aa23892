"""Writes conversations.json: what transformers 5 makes of conversations under templates that use what
public ones use. A case has the text without and with the generation prompt (null where the template
refuses), the tokens, and the assistant's tokens where the template marks them. Run it after
make_golden.py, whose Qwen2 tokenizer it uses: `python make_chat_golden.py`."""

import json
from pathlib import Path

from transformers import AutoTokenizer

HERE = Path(__file__).parent

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The \"weather\" of a città.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "where", "enum": ["Lima", "Łódź"]},
                "items": {"type": "array", "items": {"type": "number"}, "default": [1.0, 2.5e-07, 1e16]},
                "when": {"type": ["string", "null"], "nullable": True},
                "exact": {"type": "object", "properties": {"values": {"type": "boolean", "default": False}}},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "now", "parameters": {}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


ROUNDS = [
    {"role": "system", "content": "Be brief. "},
    user("2+2?\n"),
    assistant("<think>\nsum it\n</think>\n\n4 🦀"),
    user("  and 3+3 ñ?"),
    assistant("\n6", reasoning_content="\nas before\n"),
]
CALLS = [
    user("weather in Lima?"),
    assistant(None, tool_calls=[call("weather", {"city": "Lima", "items": [1.0, 3]}, id="abcdefghi")], thinking="look"),
    {"role": "tool", "name": "weather", "content": "18 °C", "tool_call_id": "abcdefghi"},
    {"role": "tool", "name": "time", "content": {"hour": 7}, "tool_call_id": "abcdefghj"},
    assistant("It is 18 °C."),
    user("thanks"),
    assistant("", tool_calls=None, reasoning="polite"),
]
# arguments as text, which is how OpenAI gives them
AS_TEXT = [
    user("hi"),
    assistant("", tool_calls=[call("time", '{"zone": "Łódź"}', id="abcdefghi")]),
    {"role": "tool", "content": "noon"},
    assistant("noon"),
]
PARTS = [
    user([{"type": "text", "text": "one"}, {"type": "text", "text": " two "}]),
    assistant([{"type": "text", "text": "three"}]),
]
CONVERSATIONS = {
    "rounds": {"messages": ROUNDS},
    "calls": {"messages": CALLS, "tools": [WEATHER, TIME]},
    "arguments as text": {"messages": AS_TEXT, "tools": [TIME]},
    "without tools": {"messages": CALLS},
    "no tools": {"messages": ROUNDS, "tools": []},
    "parts": {"messages": PARTS},
    "unthinking": {"messages": ROUNDS, "variables": {"enable_thinking": False, "xml_tools": ["a", 1], "bos_token": "<!>"}},
}

TEMPLATES = {
    # Llama 3.1: tools before the first question, one call a turn, the date
    "header": """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|system|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" + system_message }}
{%- if tools is not none %}
    {%- if messages | length != 0 %}
        {%- set first = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("there is no first question") }}
    {%- endif %}
    {{- "<|user|>\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first + "<|end|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|' + message['role'] + '|>\\n\\n' + message['content'] | trim + '<|end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call a turn") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|assistant|>\\n\\n{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|end|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|ipython|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n\\n' }}{%- endif %}
""",
    # Qwen3: the thoughts after the last question are kept, the earlier ones dropped
    "last thought": """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<r>\\n' }}{{- content }}{{- '\\n</r>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
""",
    # Mistral: tools before the last question, ids of nine characters
    "available tools": """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- ns.index }}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " ~ message["content"] ~ "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("ids have nine characters") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string }}
        {%- if message.tool_call_id is defined %}{{- ', "call_id": "' + message.tool_call_id + '"}' }}{%- endif %}
        {{- "[/TOOL_RESULTS]" }}
    {%- else %}
        {{- raise_exception("unknown role") }}
    {%- endif %}
{%- endfor %}
""",
    # Gemma: the system's text before the first question, turns alternate, parts of content
    "alternating": """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}{%- set role = "model" -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model
'}}{%- endif -%}
""",
    # DeepSeek-R1: all on few lines, flags in a namespace, the generation prompt begins a thought
    "opened thought": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<U>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<A><calls>' + tool['type'] + '<sep>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] + '\\n' + '```'}}{%- set ns.is_first = true -%}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'</outputs>' + message['content'] + '<E>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<A>' + content + '<E>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<outputs><o>' ~ message['content'] ~ '</o>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n<o>' ~ message['content'] ~ '</o>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'</outputs>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<A><think>\\n'}}{% endif %}
""",
    # Hermes: macros that call themselves, types written as Python's
    "python types": """\
{%- macro python_type(spec) %}
{%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic[spec.type] is defined %}
    {{- basic[spec.type] }}
{%- elif spec.type == "array" %}
    {{- "list[" + python_type(spec['items']) + "]" }}
{%- elif spec.type == "object" %}
    {%- if spec.additionalProperties is defined %}
        {{- "dict[str, " + python_type(spec.additionalProperties) + ']' }}
    {%- else %}
        {{- "dict" }}
    {%- endif %}
{%- elif spec.type is iterable and spec.type is not string %}
    {{- "Union[" }}
    {%- for t in spec.type %}
        {{- python_type({"type": t}) }}
        {%- if not loop.last %}{{- "," }}{%- endif %}
    {%- endfor %}
    {{- "]" }}
{%- else %}
    {{- "Any" }}
{%- endif %}
{%- endmacro %}
{%- for tool in tools or [] %}
    {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
    {{- '{"name": "' + tool.name + '", ' }}
    {{- '"description": "' + tool.name + '(' }}
    {%- for name, fields in (tool.parameters.properties or {}).items() %}
        {{- name + ": " + python_type(fields) }}
        {%- if not loop.last %}{{- ", " }}{%- endif %}
    {%- endfor %}
    {{- ")" }}
    {%- if tool.return is defined %}{{- " -> " + python_type(tool.return) }}{%- endif %}
    {{- " - " + tool.description + "\\n" }}
    {%- for name, fields in tool.parameters.properties | items if tool.parameters.properties %}
        {{- "    " ~ loop.index ~ "/" ~ loop.length ~ " " ~ name ~ "(" ~ (fields.keys() | list | join("|")) ~ ")" ~ ("" if loop.last else "\\n") }}
    {%- endfor %}
    {{- '", "parameters": ' }}
    {{- (tool.parameters | tojson) if tool.parameters.properties | length > 0 else "{}" }}
    {{- "}" }}
    {%- if not loop.last %}{{- "\\n" }}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or message.role == "system" or (message.role == "assistant" and message.tool_calls is not defined) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n' }}{{- tool_call.function | default(tool_call) | tojson }}{{- '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}{{- '<|im_start|>tool\\n' }}{%- endif %}
        {{- '<tool_response>\\n' ~ message.content }}
        {%- if not loop.last %}{{- '\\n</tool_response>\\n' }}{%- else %}{{- '\\n</tool_response>' }}{%- endif %}
        {%- if not loop.last and loop.nextitem.role != "tool" %}{{- '<|im_end|>' }}{%- elif loop.last %}{{- '<|im_end|>' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    # SmolLM3: modes by the system's text, generation blocks with text of the turn before them
    "modes": """\
{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{%- if enable_thinking %}{%- set reasoning_mode = "/think" %}{%- else %}{%- set reasoning_mode = "/no_think" %}{%- endif %}
{{- "<|im_start|>system\\n" -}}
{%- if messages[0].role == "system" %}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}
    {%- set reasoning_mode = "/no_think" -%}
  {%- endif %}
  {%- set custom = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{%- if custom is defined and custom -%}{{ custom + "\\n\\n" }}{%- endif -%}
{%- if xml_tools or tools -%}
  {%- set ns = namespace(xml="", names=[]) -%}
  {%- for tool in (xml_tools or tools)[:] -%}
    {%- set ns.xml = ns.xml ~ (tool | string) ~ "\\n" -%}
    {%- set ns.names = ns.names + [loop.index] -%}
  {%- endfor -%}
  {{- ns.xml + "</tools> " ~ ns.names }}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n"  + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if reasoning_mode == "/think" -%}
            {{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
        {{ "<|im_start|>" + "user\\n"  + content + "<|im_end|>\\n" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if reasoning_mode == "/think" -%}{{ "<|im_start|>assistant\\n" }}{%- else -%}{{ "<|im_start|>assistant\\n<think>\\n\\n</think>\\n" }}{%- endif -%}
{%- endif -%}
""",
    # gpt-oss: TypeScript by macros, channels, the thought of the last turn alone
    "channels": """\
{%- macro typescript(spec, required, nullable=false) -%}
    {%- if spec.type == "array" -%}
        {%- if spec['items'] -%}
            {%- if spec['items']['type'] == "string" -%}{{- "string[]" }}
            {%- elif spec['items']['type'] == "number" -%}{{- "number[]" }}
            {%- else -%}{{- typescript(spec['items'], required) + "[]" }}{%- endif -%}
            {%- if spec.nullable -%}{{- " | null" }}{%- endif -%}
        {%- else -%}{{- "any[]" }}{%- endif -%}
    {%- elif spec.type is defined and spec.type is iterable and spec.type is not string and spec.type is not mapping and spec.type[0] is defined -%}
        {%- if spec.type | length > 1 -%}{{- spec.type | join(" | ") }}{%- else -%}{{- spec.type[0] }}{%- endif -%}
    {%- elif spec.type == "string" -%}
        {%- if spec.enum -%}{{- '"' + spec.enum|join('" | "') + '"' -}}{%- else -%}{{- "string" }}{%- endif -%}
    {%- elif spec.type == "object" -%}
        {%- if spec.properties -%}
            {{- "{\\n" }}
            {%- for name, inner in spec.properties.items() -%}
                {{- name -}}
                {%- if name not in (spec.required or []) -%}{{- "?" }}{%- endif -%}
                {{- ": " }}{{ typescript(inner, spec.required or []) }}
                {%- if not loop.last -%}{{- ", " }}{%- endif -%}
            {%- endfor -%}
            {{- "}" }}
        {%- else -%}{{- "object" }}{%- endif -%}
    {%- else -%}{{- "any" }}{%- endif -%}
{%- endmacro -%}
{%- macro namespace_of(name, tools) -%}
    {{- "## " + name + "\\n\\nnamespace " + name + " {\\n" }}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "// " + tool.description + "\\ntype "+ tool.name + " = " }}
        {%- if tool.parameters and tool.parameters.properties %}
            {{- "(_: {\\n" }}
            {%- for param_name, spec in tool.parameters.properties.items() %}
                {%- if spec.description %}{{- "// " + spec.description + "\\n" }}{%- endif %}
                {{- param_name }}
                {%- if param_name not in (tool.parameters.required or []) -%}{{- "?" }}{%- endif -%}
                {{- ": " }}
                {{- typescript(spec, tool.parameters.required or []) }}
                {%- if spec.default is defined -%}
                    {%- if spec.enum %}{{- ", // default: " + spec.default }}
                    {%- elif spec.oneOf %}{{- "// default: " + spec.default }}
                    {%- else %}{{- ", // default: " + spec.default|tojson }}{%- endif -%}
                {%- endif -%}
                {%- if not loop.last %}{{- ",\\n" }}{%- else %}{{- "\\n" }}{%- endif -%}
            {%- endfor %}
            {{- "}) => any;\\n\\n" }}
        {%- else -%}{{- "() => any;\\n\\n" }}{%- endif -%}
    {%- endfor %}
    {{- "} // namespace " + name }}
{%- endmacro -%}
{%- if reasoning_effort is not defined %}{%- set reasoning_effort = "medium" %}{%- endif %}
{{- "<|start|>system<|message|>Reasoning: " + reasoning_effort + "<|end|>" }}
{%- if messages[0].role == "developer" or messages[0].role == "system" %}
    {%- set developer_message = messages[0].content %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set developer_message = "" %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if developer_message or tools %}
    {{- "<|start|>developer<|message|>" }}
    {%- if developer_message %}{{- "# Instructions\\n\\n" }}{{- developer_message }}{%- endif %}
    {%- if tools -%}{{- "# Tools\\n\\n" }}{{- namespace_of("functions", tools) }}{%- endif -%}
    {{- "<|end|>" }}
{%- endif %}
{%- set last_tool_call = namespace(name=none) %}
{%- for message in loop_messages -%}
    {%- if message.role == 'assistant' -%}
        {%- if "content" in message %}
            {%- if "<|channel|>final" in message.content %}{{- raise_exception("channels are not content") }}{%- endif %}
        {%- endif %}
        {%- if "thinking" in message %}
            {%- if "<|channel|>final" in message.thinking %}{{- raise_exception("channels are no thought") }}{%- endif %}
        {%- endif %}
        {%- if "tool_calls" in message and message.tool_calls %}
            {%- set tool_call = message.tool_calls[0] %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {%- set later = namespace(found=false) %}
            {%- for other in loop_messages[loop.index:] if not later.found %}
                {%- if other.role == 'assistant' and "tool_calls" not in other %}{%- set later.found = true %}{%- endif %}
            {%- endfor %}
            {%- if message.content and message.thinking and not later.found %}
                {{- raise_exception("either content or thinking") }}
            {%- elif message.thinking and not later.found %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant to=" }}
            {{- "functions." + tool_call.name + "<|channel|>commentary " }}
            {{- (tool_call.content_type if tool_call.content_type is defined else "json") + "<|message|>" }}
            {{- tool_call.arguments|tojson }}
            {{- "<|call|>" }}
            {%- set last_tool_call.name = tool_call.name %}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if "thinking" in message %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
        {%- else %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
            {%- set last_tool_call.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' -%}
        {%- if last_tool_call.name is none %}{{- raise_exception("an answer without a call") }}{%- endif %}
        {{- "<|start|>functions." + last_tool_call.name }}
        {{- " to=assistant<|channel|>commentary<|message|>" + message.content|tojson + "<|end|>" }}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
""",
    "parts by filters": """\
{%- macro text(content) -%}
{%- if content is string %}{{ content }}{% elif content is not mapping and content is sequence %}{{ content | selectattr('type', 'equalto', 'text') | map(attribute='text') | map('trim') | join('+') }}{% else %}{{ content }}{% endif %}
{%- endmacro -%}
{% for message in messages | rejectattr('role', 'in', ['tool']) %}
{{ loop.cycle('a', 'b') }}{{ message.role | capitalize }}: {{ text(message.content) }}
    {% generation %}{{ message.name | default('-') }}{% endgeneration %}

{% endfor %}
""",
    # blocks with every way to trim around them; variables set inside do not leave
    "blocks": """\
{% set seen = 'outside' %}
{% set ns = namespace(answers=0) %}
{% for message in messages %}
    {% if message.role == 'assistant' %}
<a {{- ns.answers }}>
    {% generation %}
    {% set seen = 'inside' %}
    {% set ns.answers = loop.index %}
  {{ message.content }}{{ loop.index }}{{ seen }}
    {% endgeneration %}
<b>{%- generation -%}  {{ message.tool_calls | default([], true) | length }}  {%- endgeneration -%}  <c>
{% generation -%} x {% endgeneration -%} <d>
{{- seen }}
    {% else %}
{{ message.role }}{% generation %}{% endgeneration %}
    {% endif %}
{% endfor %}
""",
    "values": """\
{{ tools }} {{ [1.0, 2.5e-07, 1e16, 0.1, -3, true, none, "it's", 'a "b"', "é\\n"] }} {{ {'a': {'b': [] } } }} {{ none }}{{ true ~ none ~ 1.50 ~ [1] }}
{{ [1.0, 2.5e-07, 1e16, 1e300, 0.1, -3, 12345678901234567890] | tojson }} {{ "é🦀\\u2028</script>'\\"\\x7f\\b" | tojson }}
{{ {'b': 1, 'a': [{}, [], {'é': none}]} | tojson(indent=2) }} {{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true) }} {{ {'b': [1, 2]} | tojson(separators=(',', ':')) }} {{ 'é' | tojson(true) }}
{{ absent | length }}{{ 'x' in absent }}{{ absent is iterable }}{% for x in absent %}x{% endfor %}{{ absent | default('d') }}{{ absent or 'o' }}{{ absent is none }}
{{ 'abc' is sequence }} {{ {} is sequence }} {{ 'abc' is iterable }} {{ none is iterable }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.0 is float }} {{ 'a' is mapping }} {{ false is false }} {{ 1 is boolean }}
{{ (7 // 2) ~ (7 % 2) ~ (7 / 2) ~ (2 ** 3) ~ (-7 // 2) }} {{ 'abc'[0] ~ 'abc'[-1] ~ 'abc'[1:] ~ 'añb'[::-1] }} {{ [1, 2] + [3] }} {{ 'ab' * 2 }} {{ 1 if true }}{{ 'x' if false }}
""",
    "methods": """\
{% set s = ' ñandú: one, two: three\\n' %}
{{ s.find('one') }} {{ s.rfind(':') }} {{ s.find('zz') }} {{ s.index('one') }} {{ s.partition(':') | join('^') }} {{ s.rpartition(': ') | join('^') }} {{ 'a'.partition('b') | join('^') }} {{ s.rsplit(':', 1) }} {{ s.split(':', 1) }} {{ s.split() }}
{{ s.strip() }}|{{ s.lstrip(' ñ') }}|{{ s.strip().removeprefix('ñ').removesuffix('e') }}|{{ '\\x1c a \\u00a0'.strip() }}|{{ s | trim }}|{{ 'xxaxx' | trim('x') }}
{{ s.upper() }}{{ s.title() }}{{ s.strip().capitalize() }} {{ s.count('o') }} {{ s.replace('o', '0', 1) }} {{ s.strip().startswith(('ñ', 'x')) }} {{ 'a\\nb'.splitlines() }} {{ ', '.join(['a', 'b']) }} {{ '{} {x}'.format(1, x=2) }} {{ 'ab'.isalpha() }} {{ '12'.isdigit() }}
{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b', 'd') }} {{ {'a': 1}.get('b') }} {% for k, v in {'items': 1, 'keys': 2}.items() %}{{ k }}{{ v }}{% endfor %} {{ {'b': 1, 'a': 2}.values() | list }} {% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %} {{ {'b': 1} | list }} {{ 'a' in {'a': 1} }}
{{ [3, 1, 2] | sort | first }} {{ [1, 2, 3] | last }} {{ ['a', 'b'] | reverse | join }} {{ [1, 2, 2] | unique | list }} {{ ['x'] * 2 }} {{ range(3) | list }} {{ [[1, 2]] | map('first') | list }} {{ 'a,b' | replace(',', ';') }} {{ 'Ab' | lower }} {{ 3.7 | int }} {{ '3' | int + 1 }} {{ [1, 2] | sum }} {{ 2.6 | round }} {{ 'a\\nb' | indent(2) }} {{ 'abc' | length }}
""",
    "a macro sees what is set later": """\
{%- macro line(message) -%}{{ prefix }}{{ other(message.role) }}{%- endmacro -%}
{%- macro other(role) -%}<{{ role }}>{%- endmacro -%}
{%- set prefix = '> ' -%}
{% for message in messages %}{{ line(message) }}{% endfor %}
""",
    "windows line ends": "{% for message in messages %}\r\n{{ message.role }}\r\n{% endfor %}\r\n",
}


def main():
    tokenizer = AutoTokenizer.from_pretrained(HERE / "qwen2")
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    cases = []
    for name, template in TEMPLATES.items():
        for kind, given in CONVERSATIONS.items():
            options = {"chat_template": template, "tools": given.get("tools"), **given.get("variables", {})}

            def written(**more):
                try:
                    return tokenizer.apply_chat_template(given["messages"], **options, **more)
                except Exception:  # whatever Python raises, no text came out
                    return None

            case = {"name": name, "kind": kind}
            case["text"] = written(tokenize=False)
            case["begun"] = written(tokenize=False, add_generation_prompt=True)
            if "{% generation" in template or "{%- generation" in template:
                marked = written(return_dict=True, return_assistant_tokens_mask=True)
                case["ids"] = marked and marked["input_ids"]
                case["assistant"] = marked and marked["assistant_masks"]
            cases.append(case)
    golden = {"templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases}
    (HERE / "conversations.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


main()
