"""covenq: the durable inbox for GitHub webhooks."""
