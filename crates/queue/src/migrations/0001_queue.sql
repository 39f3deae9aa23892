-- Times are milliseconds since 1970 by the database's clock; ids are UUIDs as text. One text for
-- SQLite and PostgreSQL.

create table jobs (
    id text primary key,
    name text not null,
    key text,
    spec text not null,
    resolved text not null,
    spec_sha256 text not null,
    priority bigint not null,
    state text not null,
    attempts bigint not null,
    max_attempts bigint not null,
    not_before bigint not null,
    owner text,
    lease_until bigint,
    fence bigint not null,
    cancel_requested bigint,
    progress text,
    result text,
    error text,
    schedule text,
    due bigint,
    last_event bigint not null,
    created bigint not null,
    updated bigint not null,
    finished bigint
);

-- A key is free again once its job has ended or is being cancelled.
create unique index jobs_live_key on jobs (key)
    where state in ('queued', 'running') and cancel_requested is null;
-- In the order of claiming, which is then a walk along the index.
create index jobs_by_state on jobs (state, priority desc, id);
create index jobs_leased on jobs (lease_until) where state = 'running';
create index jobs_live_of_schedule on jobs (schedule, id) where state in ('queued', 'running');
create index jobs_by_name on jobs (name, id);

-- Append-only; `seq` counts from 1 without gaps within a job.
create table events (
    job text not null references jobs (id),
    seq bigint not null,
    at bigint not null,
    kind text not null,
    detail text not null,
    primary key (job, seq)
);

create table schedules (
    id text primary key,
    name text not null unique,
    cron text not null,
    time_zone text not null,
    spec text not null,
    overlap text not null,
    catchup text not null,
    jitter bigint not null,
    priority bigint not null,
    max_attempts bigint not null,
    paused bigint,
    cursor_at bigint not null,
    created bigint not null,
    updated bigint not null
);

create table tokens (
    id text primary key,
    name text not null,
    hash text not null,
    scopes text not null,
    expires bigint,
    created bigint not null,
    revoked bigint
);

create unique index tokens_live_name on tokens (name) where revoked is null;
