//! The shop's API: keeps an order in PostgreSQL, and hands it to the worker through Redis.

mod http;
mod redis;
mod trace;

use std::sync::Arc;

use serde_json::json;
use tokio_postgres::{Client, NoTls};

use http::{Request, Response};
use trace::Span;

struct Shop {
    database: Client,
    redis_url: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = variable("PORT").parse()?;
    let (database, connection) = tokio_postgres::connect(&variable("DATABASE_URL"), NoTls).await?;
    tokio::spawn(async move {
        // Without its database the API is of no use; devenv starts it again when the database is back.
        let _ = connection.await;
        std::process::exit(1);
    });
    let shop = Arc::new(Shop { database, redis_url: variable("REDIS_URL") });
    trace::log("info", "listening", None, json!({ "port": port }));
    http::serve(port, move |request| {
        let shop = shop.clone();
        async move { shop.answer(request).await }
    })
    .await?;
    Ok(())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start the API with `devenv up`"))
}

impl Shop {
    async fn answer(&self, request: Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") => Response::text(200, "ok"),
            ("POST", "/orders") => {
                let span = Span::begin("POST /orders", request.header("traceparent"));
                let answer = match self.order(&request, &span).await {
                    Ok(id) => Response::json(201, &json!({ "id": id, "trace_id": span.trace_id })),
                    Err(error) => {
                        trace::log("error", "an order was refused", Some(&span), json!({ "error": error.to_string() }));
                        Response::json(500, &json!({ "error": error.to_string() }))
                    }
                };
                span.end().await;
                answer
            }
            ("GET", "/orders") => match self.database.query_one("SELECT count(*) FROM orders", &[]).await {
                Ok(row) => Response::json(200, &json!({ "orders": row.get::<_, i64>(0) })),
                Err(error) => Response::json(500, &json!({ "error": error.to_string() })),
            },
            _ => Response::text(404, "there is nothing here"),
        }
    }

    async fn order(&self, request: &Request, span: &Span) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
        let order: serde_json::Value = serde_json::from_slice(&request.body)?;
        let item = order["item"].as_str().ok_or("an order needs an item")?;
        let row = self.database.query_one("INSERT INTO orders (item, trace_id) VALUES ($1, $2) RETURNING id", &[&item, &span.trace_id]).await?;
        let id: i64 = row.get(0);
        let job = json!({ "id": id, "item": item, "traceparent": span.traceparent() }).to_string();
        redis::push(&self.redis_url, "orders", &job).await?;
        trace::log("info", "order taken", Some(span), json!({ "order": id, "item": item }));
        Ok(id)
    }
}
