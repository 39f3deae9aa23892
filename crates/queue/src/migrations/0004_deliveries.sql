-- What is still to be told of jobs' ends, and what was told: a row for each end and webhook, made by the transaction
-- that ends the job.
create table deliveries (
    id text primary key,
    job text not null references jobs (id),
    event bigint not null,
    url text not null,
    body text not null,
    state text not null,
    attempts bigint not null,
    due bigint not null,
    status bigint,
    error text,
    created bigint not null,
    updated bigint not null
);

create index deliveries_due on deliveries (url, due) where state = 'pending';
