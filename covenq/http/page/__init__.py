"""Pages for those without a shell (support, billing, audit): what waits, deliveries, and why one ended as it did.

On the listener of [api] alone, and only with `[api] page = true`. Read-only, rendered here, without JavaScript; who has logged in
with a token of the role `read` sees what that reads. `app` has the application, which is made, with the templates' engine, at
the first request for a page. A page is a module: its resource reads through the functions that the API answers from, and a
function makes view values of what they give; the template beside them decides nothing but where a value stands.
"""
