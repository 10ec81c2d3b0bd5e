// The shop's front: a page, and orders that begin a trace.
const http = require('node:http')
const { randomBytes } = require('node:crypto')

const { PORT, API_URL, OTEL_EXPORTER_OTLP_ENDPOINT } = process.env
const log = (level, msg, fields) => console.log(JSON.stringify({ level, msg, ...fields }))

const PAGE = `<!doctype html><title>Shop</title><h1>Shop</h1>
<form method="post" action="/order"><input name="item" value="teapot"><button>Order</button></form>`

async function order (item) {
  const [trace, span, began] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex'), Date.now()]
  const reply = await fetch(`${API_URL}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', traceparent: `00-${trace}-${span}-01` },
    body: JSON.stringify({ item })
  })
  const answer = await reply.json()
  log('info', 'order placed', { item, order: answer.id, trace_id: trace })
  await send({ traceId: trace, spanId: span, name: 'order', kind: 2, startTimeUnixNano: `${began}000000`, endTimeUnixNano: `${Date.now()}000000` })
  return { status: reply.status, answer }
}

async function send (span) {
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'web' } }] }
  const body = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] })
  try {
    await fetch(`${OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  } catch (error) {
    log('warn', 'a span was lost', { error: String(error) })
  }
}

const server = http.createServer(async (request, response) => {
  try {
    if (request.url === '/health') return response.end('ok')
    if (request.method !== 'POST') return response.setHeader('content-type', 'text/html').end(PAGE)
    let body = ''
    for await (const chunk of request) body += chunk
    const item = request.headers['content-type'] === 'application/json' ? JSON.parse(body).item : new URLSearchParams(body).get('item')
    const { status, answer } = await order(item)
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  } catch (error) {
    log('error', 'a request failed', { error: String(error) })
    response.writeHead(502).end('the shop is closed for a moment')
  }
})

server.listen(PORT, '127.0.0.1', () => log('info', 'listening', { port: Number(PORT) }))
process.on('SIGTERM', () => { server.close(); server.closeIdleConnections() })
