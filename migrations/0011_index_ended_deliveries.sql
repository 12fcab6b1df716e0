-- What failed, among the many that did not: an endpoint's deliveries are listed by status, newest first.

create index deliveries_ended on deliveries (environment_id, endpoint_id, delivery_status, created_at desc, sequence desc, id desc)
    where delivery_status in ('exhausted', 'cancelled');
