-- What a job needs of the worker that takes it.
alter table jobs add column gpus bigint not null default 0;
alter table jobs add column gpu_bytes bigint not null default 0;
