// The webhook handler of the implementation guide; only what `activate` does is the journey's.
module.exports = (app, express, activate) => {
  app.post('/webhooks', express.json(), (req, res) => {
    const { event_type, data } = req.body;
    switch (event_type) {
      case 'checkout.session.completed':
        activate(data.customer_id);
        break;
      case 'checkout.session.failed':
      case 'checkout.session.expired':
        break;
    }
    res.sendStatus(200);
  });
};
