-- Whether a due time has had its job: asked when the clock was set back.
create index jobs_of_due_time on jobs (schedule, due);
