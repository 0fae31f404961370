"""Search spaces: schema, parameters, expressions and sampling."""
