-- Names and prefixes of datasets that a token is for, one a line; all if empty.
alter table tokens add column datasets text not null default '';
-- Bounds on a token's jobs; none if null. Minutes are those of the last 24 hours.
alter table tokens add column most_queued bigint;
alter table tokens add column most_running bigint;
alter table tokens add column most_minutes bigint;

-- Who submitted it, when it was claimed last, and the milliseconds that its attempts took.
alter table jobs add column token text;
alter table jobs add column claimed bigint;
alter table jobs add column spent bigint not null default 0;
create index jobs_of_token on jobs (token, state) where token is not null;

-- Who did what. The oldest lines make room for new ones.
create table audit (
    id text primary key,
    at bigint not null,
    token text not null,
    name text not null,
    action text not null,
    object text not null,
    status bigint not null,
    address text not null
);
