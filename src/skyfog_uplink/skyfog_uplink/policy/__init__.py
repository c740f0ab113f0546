"""Pure: what is known of the link, what is planned, what is sent and which answer counts. Time is `now_ns`."""
